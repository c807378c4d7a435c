// The page's state: read once, then kept by news from the server; every change draws the panels that it concerns.

import { byId, el, fill } from "./dom.js";
import { drawAlarms } from "./alarms.js";
import { drawChains } from "./chains.js";
import { Connection } from "./connection.js";
import { openJourney, openNode, refreshDetail } from "./detail.js";
import { drawFrames } from "./frames.js";
import { drawLinks } from "./links.js";
import { drawHandovers, drawPlaces } from "./memories.js";
import { Sky } from "./sky.js";
import { replay } from "./switches.js";
import { clock, count, several } from "./words.js";

const MOST = { frames: 6, alarms: 60, chains: 300, handovers: 60 };

const state = {
  chains: [], nodes: [], links: [], memories: [], frames: [], alarms: [], handovers: [], switches: [], behind_s: 0, isLost: false,
};
const sky = new Sky(byId("sky"), state, openNode);
const dirty = new Set();
const connection = new Connection(take, (item) => news[item.kind]?.(item), tell);

const panels = {
  sky: () => sky.update(),
  counters: () => fill(byId("counters"), counters()),
  links: () => drawLinks(byId("link-table"), byId("link-summary"), state),
  places: () => drawPlaces(byId("places"), state),
  frames: () => drawFrames(byId("frame"), byId("frames"), state),
  alarms: () => drawAlarms(byId("map"), byId("alarms"), byId("alarm-count"), state, openJourney),
  chains: () => drawChains(byId("chains"), state, byId("clockwork").checked, openJourney),
  handovers: () => drawHandovers(byId("under-way"), byId("handovers"), state),
};

/** What each kind of news changes, and the panels that show it. */
const news = {
  epoch: (item) => {
    const { epoch, epoch_began_s, access, next_access, next_links, links } = item;
    Object.assign(state, { epoch, epoch_began_s, access, next_access, next_links, links });
    touch("sky", "links");
  },
  nodes: (item) => { state.nodes = item.nodes; touch("sky"); refreshDetail("node"); },
  links: (item) => { state.links = item.links; touch("sky", "links"); refreshDetail("node"); },
  memories: (item) => { state.memories = item.memories; touch("sky", "places", "handovers"); },
  counters: (item) => { state.counters = item.counters; touch("counters"); },
  chain: (item) => { upsert("chains", item.chain); touch("chains"); refreshDetail("chain", item.chain.id); },
  frame: (item) => { upsert("frames", item.frame); touch("frames", "alarms", "sky"); },
  alarm: (item) => { upsert("alarms", item.alarm); touch("alarms"); },
  handover: (item) => { upsert("handovers", item.handover); touch("handovers"); replay(state, item.handover, now_s(), () => touch("sky", "handovers")); },
  travel: (item) => sky.travel(item),
  run: (item) => sky.run(item),
};

function touch(...names) {
  if (dirty.size === 0) requestAnimationFrame(draw);
  names.forEach((name) => dirty.add(name));
}

function draw() {
  const names = [...dirty];
  dirty.clear();
  names.forEach((name) => panels[name]());
}

function upsert(list, entry) {
  const known = state[list].findIndex((other) => other.id === entry.id);
  if (known >= 0) state[list][known] = entry;
  else state[list].unshift(entry);
  state[list].length = Math.min(state[list].length, MOST[list]);
}

function counters() {
  const told = state.counters;
  const reads = told.reads;
  const all = reads.inline + reads.local + reads.remote;
  const near = all ? `${Math.round((100 * (reads.inline + reads.local)) / all)} %` : "–";
  const entries = [
    ["events", count(told.events), ""],
    ["reads without a link", near, `${count(reads.inline + reads.local)} of ${count(all)} reads of state needed no link`],
    ["handovers", count(told.handovers), "memories that went to another node"],
    ["pushes", count(told.pushes), "bundles of state that were pushed to the next node"],
    ["objectives missed", count(told.violations), "pushes that took longer than their objective"],
    ["retries", count(told.retries), ""],
    ["dead letters", count(told.dead_letters), ""],
  ];
  const bad = new Set(["objectives missed", "dead letters"]);
  return entries.map(([name, value, title]) =>
    el("div", { title: title || null, class: bad.has(name) && value !== "0" ? "bad" : null },
      el("dt", {}, name), el("dd", { "data-counter": name }, value)));
}

/** How the connection stands; a loss that lasts is told with the time of the last thing that was heard. */
function tell({ isLive, words, heard_ms }) {
  fill(byId("live"), isLive ? "live" : words ? "not live" : "connecting again");
  byId("live").classList.toggle("on", isLive);
  if (words) fill(byId("lost-words"), words, heard_ms ? ` What is shown is as of ${clock(heard_ms / 1000)}.` : "");
  byId("lost").hidden = !words;
  document.body.classList.toggle("stale", Boolean(words));
  state.isLost = Boolean(words);
}

function take(snapshot) {
  Object.assign(state, snapshot, { behind_s: Date.now() / 1000 - snapshot.now_s });
  for (const [list, most] of Object.entries(MOST)) state[list].length = Math.min(state[list].length, most);
  const watchesFires = state.frames.length + state.alarms.length > 0 || state.nodes.some((node) => node.functions.includes("detect"));
  document.querySelector("main").classList.toggle("plain", !watchesFires);
  document.querySelector("main").classList.toggle("lone", state.nodes.length === 1);
  fill(byId("project"), state.project);
  document.title = `Skylark: ${state.project}`;
  touch(...Object.keys(panels));
}

/** Unix seconds by the server's clock. */
function now_s() {
  return Date.now() / 1000 - state.behind_s;
}

function tick() {
  if (!state.access) return;
  if (!state.rotation) {
    fill(byId("now"), several(state.nodes.length, "node"), `, a tick every ${state.tick_s} s`);
    return;
  }
  const above = [el("b", {}, state.access), ` ${state.isLost ? "was" : "is"} above ${state.area}`];
  if (state.next_access !== state.access && !state.isLost) {
    const wait_s = Math.max(0, Math.ceil(state.epoch_began_s + state.tick_s - now_s()));
    above.push(el("span", {}, `, ${state.next_access} comes in ${wait_s} s`));
  }
  fill(byId("now"), above);
}

byId("clockwork").addEventListener("change", () => touch("chains"));
byId("again").addEventListener("click", () => connection.begin());
byId("links").open = matchMedia("(max-width: 640px)").matches; // where the picture has no room for figures
setInterval(tick, 250);
connection.begin();
