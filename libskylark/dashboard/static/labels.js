// What stands beside a node of the picture, and where: its name, its note, the boxes of memories.

import { STEPS } from "./switches.js";
import { size } from "./words.js";

const NAME_PX = 7; // of a letter, about
const NOTE_PX = 5.6;
const LINE_PX = 13;

/** Where a node's name goes, from the node's place on: outside the ring, with room for the note between the two. */
export function labelOf(at, name, note, orbit) {
  if (at.angle === null) return { dx: 18, dy: 0, anchor: "start" };
  const half = Math.max(name.length * NAME_PX, note.length * NOTE_PX) / 2;
  const [cos, sin] = [Math.cos(at.angle), Math.sin(at.angle)];
  const x = inside(at.x + (15 + half) * cos, half, orbit);
  const above = note ? LINE_PX * Math.max(0, -sin) : 0;
  return { dx: x - at.x, dy: (orbit.isSmall ? 24 : 26) * sin + 1 - above, anchor: "middle" };
}

/** Where a memory's box goes: beside the node's name, away from the middle of the picture. */
export function boxPlace(at, row, width, orbit) {
  if (at.angle === null) return { x: at.x - 20 - width / 2, y: at.y + 4 + 19 * row };
  const { dx, dy } = labelOf(at, "node", "note", orbit);
  const x = inside(at.x + dx, width / 2, orbit);
  return { x, y: at.y + dy + (Math.sin(at.angle) < 0 ? -20 - 19 * row : 32 + 19 * row) };
}

/** The boxes of a memory: one where it is, one where it goes to or comes from, each with the step it is in. */
export function boxesOf(memory, played) {
  const key = `${memory.function} ${memory.partition}`;
  const hasCome = played && played.target === memory.node;
  const isCommit = played ? played.reached === STEPS.indexOf("commit") : memory.phase === "leaving";
  const step = !isCommit ? "" : hasCome ? "commit" : "fenced";
  const boxes = [{ ...memory, at: memory.node, step, key: memory.phase === "kept" ? `${key} ${memory.node}` : key }];
  if (memory.to && !hasCome) boxes.push({ ...memory, at: memory.to, ghost: true, step: isCommit ? "commit" : "copy", key: `${key} ghost` });
  if (hasCome && !isCommit) boxes.push({ ...memory, at: played.source, ghost: true, step: "retire", key: `${key} retired` });
  return boxes;
}

export function total(memory) {
  return size(memory.fields_bytes + memory.replies_bytes);
}

function inside(x, half, orbit) {
  return Math.min(Math.max(x, half - orbit.aside), orbit.width - half + orbit.aside);
}
