// Where memory is, and how it went there: a sentence for each, the handover under way, those that have ended.

import { el, empty, fill } from "./dom.js";
import { STEPS, memoryOf, switchOf } from "./switches.js";
import { clock, ms, several, size } from "./words.js";

const SHOWN = 8;

export function drawPlaces(list, state) {
  const told = state.memories.map((memory) => {
    const words = [el("b", {}, memory.function), "’s memory of ", memory.partition, ` (${sizes(memory)}) `];
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

/** Replies that are recorded with a memory make up most of it where it is handed over often, and go with it. */
export function sizes(memory) {
  const fields = size(memory.fields_bytes);
  return memory.replies_bytes ? `${fields}, and ${size(memory.replies_bytes)} of replies` : fields;
}

export function drawHandovers(place, list, state) {
  const copying = state.memories.filter((memory) => memory.to && !switchOf(state, memory));
  const going = [
    ...state.switches,
    ...copying.map((memory) => ({ ...memory, source: memory.node, target: memory.to, reached: STEPS.indexOf(memory.phase === "leaving" ? "commit" : "pre-copy") })),
  ];
  fill(place, going.length ? going.map(underWay) : state.rotation ? el("p", { class: "under-way dim" }, "None is under way.") : null);
  const rows = state.handovers.slice(0, SHOWN).map(row);
  fill(list, rows.length ? rows : empty("No memory has changed hands yet."));
}

function underWay(going) {
  const steps = STEPS.map((step, position) =>
    el("span", { class: position < going.reached ? "done" : position === going.reached ? "now" : null }, step));
  return el("p", { class: "under-way" },
    el("b", {}, `${going.function} ${going.partition}`), ` ${going.source} → ${going.target}`, el("span", { class: "steps" }, ...steps));
}

function row(move) {
  const [memory, partition] = memoryOf(move);
  const { copied_bytes, delta_bytes, unwritable_ms } = move.details;
  return el("li", { class: "row" },
    el("span", { class: "main" }, el("b", {}, memory), ` ${partition}`),
    el("span", { class: "figure" }, `${move.source} → ${move.target}`),
    el("span", { class: "dim" }, `${clock(move.finished_s)} · fenced ${ms(unwritable_ms)}`),
    el("span", { class: "dim figure", title: `${size(copied_bytes)} went ahead, ${size(delta_bytes)} at the switch` },
      `${size(copied_bytes)} + ${size(delta_bytes)}`));
}

function name(node) {
  return el("b", { class: "node" }, node);
}
