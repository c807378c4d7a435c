// What opens when a chain or a node is chosen: a chain's journey as a waterfall, a node's processes, state and moves.

import { byId, el, fill, table } from "./dom.js";
import { LINK_COLUMNS, linkRows } from "./links.js";
import { sizes } from "./memories.js";
import { KINDS, clock, count, ms, several, short, size, type } from "./words.js";

const AGAIN_MS = 400; // what is open is read again at most so often
const PLACES = { inline: "in the event", local: "here", waited: "here, once its push had come", remote: "over the link from" };

const dialog = byId("detail");
let open = null; // what is shown: {kind, name}
let pending = false;

byId("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => { open = null; });
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

export function openJourney(chain) {
  show("chain", chain);
}

export function openNode(node) {
  show("node", node);
}

/** Reads what is open again, if it is of this kind and, where one is given, of this name. */
export function refreshDetail(kind, name) {
  if (open?.kind !== kind || (name !== undefined && name !== open.name) || pending) return;
  pending = true;
  setTimeout(() => { pending = false; if (open) load(); }, AGAIN_MS);
}

async function show(kind, name) {
  open = { kind, name };
  fill(byId("detail-title"), kind === "chain" ? `Chain ${short(name)}` : name);
  fill(byId("detail-body"));
  if (!dialog.open) dialog.showModal();
  await load();
}

async function load() {
  const asked = open;
  const answer = await fetch(`/api/${asked.kind}s/${encodeURIComponent(asked.name)}`).catch(() => null);
  if (open !== asked) return;
  const told = answer && (await answer.json());
  if (!answer?.ok) fill(byId("detail-body"), el("p", { class: "empty" }, told?.detail ?? "The lab does not answer."));
  else fill(byId("detail-body"), asked.kind === "chain" ? journey(told) : node(told));
}

function journey(chain) {
  const total_ms = Math.max(1, ...chain.visits.flatMap((visit) => [
    visit.start_ms, ...visit.deliveries.map((delivery) => (delivery.start_ms ?? 0) + (delivery.duration_ms ?? 0))]));
  const depths = [];
  chain.visits.forEach((visit, place) => { depths[place] = visit.parent === null ? 0 : (depths[visit.parent] ?? 0) + 1; });
  const head = el("p", { class: "dim" }, `${chain.id} · began ${clock(chain.began_s)} · ${several(chain.events, "event")} in ${ms(chain.duration_ms)}`,
    chain.dead_letters ? el("b", { class: "bad" }, ` · ${several(chain.dead_letters, "dead letter")}`) : "",
    chain.ended ? "" : " · not ended yet", chain.is_cut ? " · too long to show to its end" : "");
  return [head, axis(total_ms), el("ol", { class: "waterfall" }, ...chain.visits.map((visit, place) => step(visit, depths[place], total_ms)))];
}

/** Round times above the tracks, four to ten of them at a desk's width. */
function axis(total_ms) {
  const power = 10 ** Math.floor(Math.log10(total_ms / 4));
  const step_ms = [1, 2, 5, 10].map((factor) => factor * power).findLast((length) => length * 4 <= total_ms) ?? power;
  const marks = Array.from({ length: Math.ceil((total_ms * 0.93) / step_ms) }, (_, place) => {
    const mark = el("span", {}, place ? ms(place * step_ms) : "0");
    mark.style.left = `${(100 * place * step_ms) / total_ms}%`;
    return mark;
  });
  return el("div", { class: "delivery axis", "aria-hidden": "true" }, el("span", { class: "marks" }, ...marks));
}

function step(visit, depth, total_ms) {
  const title = el("p", { class: "event" },
    el("b", {}, visit.handed_over ? "handed over" : type(visit.type)), ` on ${visit.node}`,
    el("span", { class: "dim" }, ` at ${ms(visit.start_ms)}`,
      visit.duplicates ? ` · came again ${visit.duplicates} times` : "", visit.deliveries.length ? "" : " · no Trigger takes it"));
  const item = el("li", {}, title, ...visit.deliveries.map((delivery) => bar(delivery, total_ms)));
  item.style.setProperty("--depth", String(Math.min(depth, 8)));
  return item;
}

function bar(delivery, total_ms) {
  const fills = el("span", { class: `bar ${delivery.outcome ?? "open"}` });
  if (delivery.outcome) {
    fills.style.left = `${(100 * delivery.start_ms) / total_ms}%`;
    fills.style.width = `${Math.max(0.4, (100 * delivery.duration_ms) / total_ms)}%`;
  }
  const failed = ["dead-lettered", "expired"].includes(delivery.outcome);
  const words = delivery.outcome
    ? `${delivery.outcome}${delivery.to ? ` to ${delivery.to}` : ""}${delivery.attempts > 1 ? ` after ${delivery.attempts} attempts` : ""}`
    : "no outcome yet";
  return el("div", { class: "delivery" },
    el("span", { class: "who" }, delivery.function),
    el("span", { class: "track" }, fills),
    el("span", { class: "figure" }, delivery.outcome ? ms(delivery.duration_ms) : ""),
    el("span", { class: failed ? "told bad" : "told dim" }, words, delivery.reason ? `: ${delivery.reason}` : "", reads(delivery.timings ?? [])));
}

function reads(timings) {
  const told = timings.filter((timing) => timing.what !== "commit").map((timing) => {
    const where = timing.place === "remote" ? `${PLACES.remote} ${timing.node}` : (PLACES[timing.place] ?? "");
    return `${timing.what} ${size(timing.size_bytes)} ${where}${timing.ms ? ` in ${ms(timing.ms)}` : ""}`;
  });
  return told.length ? ` · ${told.join(" · ")}` : "";
}

function node(told) {
  const facts = [
    ["type", KINDS[told.type] ?? told.type], ["address", told.host], ["runs", told.functions.join(", ") || "no function"],
    ["events waiting", count(told.waiting)], ["dead letters", count(told.dead_letters)], ["moves waiting", count(told.moving)],
    ["reads of state", `${count(told.reads.inline ?? 0)} in the event, ${count(told.reads.local ?? 0)} here, ${count(told.reads.remote ?? 0)} over a link`],
  ];
  return [
    told.fault ? el("p", { class: "bad" }, told.fault) : null,
    el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    part("Memory and state", [
      ...told.memories.map((memory) => [`${memory.function} ${memory.partition}`, memory.phase, sizes(memory), memory.to ? `goes to ${memory.to}` : ""]),
      ...told.bundles.map((bundle) => [`state of chain ${short(bundle.chain)}`, `for ${bundle.node}`, "", ""]),
    ], ["what", "phase", "size", ""], "Holds no memory and no state now."),
    part("Links", linkRows(told.links), LINK_COLUMNS, "No link of this epoch ends here."),
    part("Processes", told.processes.map((process) => [
      process.name, process.pid === null ? "does not run" : String(process.pid), process.address, size(process.memory_bytes), process.cpu_s === null ? "" : `${process.cpu_s} s`,
    ]), ["name", "process", "address", "memory", "processor"], "None."),
    part("Moves", told.moves.map((move) => [
      clock(move.finished_s), `${move.kind} ${move.what.split(":").map(short).join(":")}`, `${move.source} → ${move.target}`, size(move.sent_bytes),
      `${ms(move.measured_ms)} (predicted ${ms(move.predicted_ms)})`, move.met === null ? "" : move.met ? "objective met" : "objective missed",
    ]), ["time", "what", "way", "sent", "took", ""], "Nothing has moved from or to this node."),
  ];
}

function part(title, rows, columns, nothing) {
  const body = rows.length
    ? el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, table(rows, columns))
    : el("p", { class: "empty" }, nothing);
  return el("section", {}, el("h3", {}, title), body);
}
