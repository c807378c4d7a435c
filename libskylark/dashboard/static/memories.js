// Where memory is, and how it went there: a sentence for each, the handover under way, those that have ended.

import { el, empty, fill } from "./dom.js";
import { clock, ms, several, size } from "./words.js";

const SHOWN = 8;
const STEPS = ["pre-copy", "commit", "retire"];

export function drawPlaces(list, state) {
  const told = state.memories.map((memory) => {
    const words = [el("b", {}, memory.function), "’s memory of ", memory.partition, ` (${size(memory.size_bytes)}) `];
    if (memory.phase === "copying") words.push("is on ", name(memory.node), "; a copy is on ", name(memory.to));
    else if (memory.phase === "leaving") words.push("is fenced on ", name(memory.node), " and goes to ", name(memory.to));
    else words.push(memory.phase === "kept" ? "stays on " : "is on ", name(memory.node));
    return el("li", { class: memory.phase }, ...words);
  });
  const bundles = state.nodes.filter((node) => node.states);
  if (bundles.length) {
    told.push(el("li", {}, "State on its way: ", bundles.map((node) => `${several(node.states, "bundle")} on ${node.name}`).join(", ")));
  }
  fill(list, told.length ? told : empty("No function has a memory yet."));
}

export function drawHandovers(place, list, state) {
  const going = state.memories.filter((memory) => memory.to);
  fill(place, going.map((memory) => el("p", { class: "under-way" },
    el("b", {}, `${memory.function} ${memory.partition}`), ` ${memory.node} → ${memory.to}`,
    steps(memory.phase === "leaving" ? 1 : 0))));
  const rows = state.handovers.slice(0, SHOWN).map((move) => el("li", { class: "row" },
    el("span", { class: "main", title: move.what }, `${move.source} → ${move.target}`),
    el("span", { class: "figure" }, `fenced ${ms(move.details.unwritable_ms)}`),
    el("span", { class: "dim" }, `${clock(move.finished_s)} · ${size(move.details.copied_bytes)} ahead, ${size(move.details.delta_bytes)} at the switch`)));
  fill(list, rows.length ? rows : empty("No memory has changed hands yet."));
}

function steps(reached) {
  return el("span", { class: "steps" }, ...STEPS.map((step, position) =>
    el("span", { class: position < reached ? "done" : position === reached ? "now" : null }, step)));
}

function name(node) {
  return el("b", { class: "node" }, node);
}
