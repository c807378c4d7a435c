// The constellation as it moves: nodes, links with their load, events and state on their way, memories where they live.

import { fill, fixed, set, svg } from "./dom.js";
import { boxPlace, boxesOf, labelOf, total } from "./labels.js";
import { bandwidth, figuresOf, isCut } from "./links.js";
import { Orbit } from "./orbit.js";
import { switchOf } from "./switches.js";
import { Travellers } from "./travellers.js";
import { KINDS, several } from "./words.js";

const FLASH_MS = 700;
const GLIDE_MS = 900; // of a memory that changes hands
const FRAME_MS = 33;
const BACKLOG = 10; // events that wait in a node's broker; fewer come and go all the time
const PER_S_FULL = 12; // messages per second that make a link as thick as it gets

export class Sky {
  constructor(picture, state, openNode) {
    this.picture = picture;
    this.state = state;
    this.openNode = openNode;
    this.orbit = new Orbit();
    this.layers = Object.fromEntries(["ground", "upcoming", "links", "labels", "travellers", "nodes", "memories"].map((name) => [name, svg("g", { class: name })]));
    fill(picture, Object.values(this.layers));
    this.known = { nodes: new Map(), links: new Map(), upcoming: new Map(), memories: new Map() };
    this.travellers = new Travellers(this.layers.travellers, this.orbit);
    this.flashes = new Map();
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.last_ms = 0;
    new ResizeObserver(() => this.resize()).observe(picture);
    requestAnimationFrame((now) => this.frame(now));
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.picture;
    if (!width || !height) return;
    this.orbit.resize(width, height);
    set(this.picture, { viewBox: `0 0 ${width} ${height}` });
    this.picture.classList.toggle("small", this.orbit.isSmall);
    this.update();
  }

  /** Other nodes, links or memories, or the same with other figures. */
  update() {
    if (!this.state.nodes.length) return;
    this.orbit.turn(this.state, this.seconds(), 0, this.still.matches);
    this.updateGround();
    this.updateLinks();
    this.updateNodes();
    this.updateMemories();
    this.place();
  }

  travel(item) {
    if (!document.hidden && !this.still.matches) this.travellers.add(item);
  }

  run(item) {
    if (!item.clockwork) this.flashes.set(item.node, { until_ms: performance.now() + FLASH_MS, failed: ["dead-lettered", "expired"].includes(item.outcome) });
  }

  seconds() {
    return Date.now() / 1000 - this.state.behind_s;
  }

  frame(now_ms) {
    requestAnimationFrame((next) => this.frame(next));
    const elapsed_ms = now_ms - this.last_ms;
    if (elapsed_ms < FRAME_MS || document.hidden || !this.state.nodes.length) return;
    this.last_ms = now_ms;
    this.orbit.turn(this.state, this.seconds(), elapsed_ms / 1000, this.still.matches);
    this.place(now_ms);
  }

  // What there is

  updateGround() {
    const { orbit, state } = this;
    const fires = (state.frames[0]?.hotspots ?? []).filter((spot) => !spot.persistent).length;
    const parts = [
      svg("ellipse", { cx: orbit.x, cy: orbit.y, rx: orbit.rx, ry: orbit.ry, class: "orbit" }),
      svg("circle", { cx: orbit.x, cy: orbit.y, r: orbit.ground, class: "earth" }),
    ];
    if (state.rotation) {
      parts.push(
        svg("path", { d: orbit.beam(), class: "beam" }),
        svg("path", { d: orbit.area(), class: fires ? "area burning" : "area" }));
      fill(this.layers.labels, svg("text", {
        x: orbit.x, y: orbit.y - orbit.ground + 17, class: fires ? "area-name burning" : "area-name",
      }, fires ? `${state.area}: ${several(fires, "fire")}` : state.area));
    }
    fill(this.layers.ground, parts);
  }

  updateLinks() {
    this.keepLinks("links", this.state.links);
    this.keepLinks("upcoming", (this.state.next_links ?? []).map((link) => ({ ...link, upcoming: true })));
  }

  /** In a layer of their own, what comes only crosses below the figures of what is there. */
  keepLinks(layer, links) {
    keep(this.known[layer], links, (link) => `${link.source} ${link.target}`, this.layers[layer], () => {
      const mark = svg("g", {}, svg("path", {}), svg("text", { class: "link-figures" }), svg("title"));
      return { mark, line: mark.children[0], figures: mark.children[1], title: mark.children[2] };
    }, (entry, link) => {
      const load = Math.min(1, (link.messages_per_s ?? 0) / PER_S_FULL);
      const classes = ["link", link.upcoming && "upcoming", isCut(link) && "cut", link.is_ground_link && "access"];
      set(entry.mark, { class: classes.filter(Boolean).join(" "), "data-link": `${link.source} ${link.target}` });
      set(entry.line, { "stroke-width": 1.5 + 4 * Math.sqrt(load) });
      entry.figures.textContent = figuresOf(link);
      entry.title.textContent = `${link.source} – ${link.target}: ${link.latency_ms} ms, up to ${link.jitter_ms} ms more, ${bandwidth(link)} Mbit/s`
        + (link.upcoming ? ", from the next tick on" : `; ${link.messages_per_s} messages/s and ${link.state_mbps} Mbit/s of state in the last ten seconds`);
    });
  }

  updateNodes() {
    keep(this.known.nodes, this.state.nodes, (node) => node.name, this.layers.nodes, (node) => {
      const open = () => this.openNode(node.name);
      const onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } };
      const mark = svg("g", { tabindex: 0, role: "button", "data-node": node.name, onclick: open, onkeydown },
        svg("circle", { class: "halo", r: 19 }), shapeOf(node.type), svg("text", { class: "name" }, node.name), svg("text", { class: "note" }));
      return { mark, name: mark.children[2], note: mark.children[3] };
    }, (entry, node) => {
      const { access, next_access: next } = this.state;
      const role = !this.state.rotation ? "" : node.name === access ? "above" : node.name === next ? "next" : "";
      const notes = [];
      if (role) notes.push(role);
      else if (node.type !== "Sat") notes.push(KINDS[node.type]);
      if (node.waiting >= BACKLOG) notes.push(`${node.waiting} waiting`);
      if (node.states && !this.orbit.isSmall) notes.push(several(node.states, "state"));
      set(entry.mark, {
        class: `node ${node.type} ${role}${node.fault ? " silent" : ""}`,
        "aria-label": `${node.name}, ${KINDS[node.type]}${role ? `, ${role === "above" ? "above the ground area" : "comes next"}` : ""}${node.fault ? ", does not answer" : ""}`,
      });
      entry.note.textContent = node.fault ? (this.orbit.isSmall ? "silent" : "does not answer") : notes.join(" · ");
    });
  }

  updateMemories() {
    const boxes = this.state.memories.flatMap((memory) => boxesOf(memory, switchOf(this.state, memory)));
    const places = new Map();
    keep(this.known.memories, boxes, (box) => box.key, this.layers.memories, () => {
      const mark = svg("g", {}, svg("rect", { rx: 4, height: 16, y: -12 }), svg("text"), svg("title"));
      return { mark, frame: mark.children[0], words: mark.children[1], title: mark.children[2] };
    }, (entry, box) => {
      const row = places.get(box.at) ?? 0;
      places.set(box.at, row + 1);
      if (entry.at && entry.at !== box.at) Object.assign(entry, { from: entry.at, left_ms: performance.now() });
      const isTight = this.orbit.isSmall || !this.orbit.ring.includes(box.at); // figures of links are beside
      Object.assign(entry, { at: box.at, row, text: isTight ? `${box.function} ${box.step || box.partition}` : `${box.function} ${box.partition} ${box.step || total(box)}` });
      set(entry.mark, { class: `memory${box.ghost ? " ghost" : ""} ${box.phase}${box.step ? " step" : ""}`, "data-memory": box.function, "data-at": box.at });
      entry.words.textContent = entry.text;
      entry.title.textContent = `memory of ${box.function} for ${box.partition}: ${box.phase}`;
      entry.width = 6.1 * entry.text.length + 12;
      set(entry.frame, { width: entry.width, x: -entry.width / 2 });
    });
  }

  // Where it is

  place(now_ms = performance.now()) {
    const places = new Map(this.state.nodes.map((node) => [node.name, this.orbit.node(node.name, this.state)]));
    for (const [name, entry] of this.known.nodes) this.placeNode(name, entry, places.get(name), now_ms);
    for (const entry of [...this.known.links.values(), ...this.known.upcoming.values()]) this.placeLink(entry, places);
    for (const entry of this.known.memories.values()) this.placeMemory(entry, places, now_ms);
    this.travellers.place(places, now_ms);
  }

  placeNode(name, entry, at, now_ms) {
    const flash = this.flashes.get(name);
    if (flash && flash.until_ms < now_ms) this.flashes.delete(name);
    entry.mark.classList.toggle("runs", Boolean(flash && flash.until_ms >= now_ms));
    entry.mark.classList.toggle("failed", Boolean(flash?.failed && flash.until_ms >= now_ms));
    set(entry.mark, { transform: `translate(${fixed(at.x)} ${fixed(at.y)})` });
    const { dx, dy, anchor } = labelOf(at, name, entry.note.textContent, this.orbit);
    set(entry.name, { x: fixed(dx), y: fixed(dy), "text-anchor": anchor });
    set(entry.note, { x: fixed(dx), y: fixed(dy + 13), "text-anchor": anchor });
  }

  placeLink(entry, places) {
    const [one, other] = [places.get(entry.item.source), places.get(entry.item.target)];
    set(entry.line, { d: this.orbit.line(one, other) });
    const isGround = entry.item.is_ground_link;
    const middle = this.orbit.between(one, other, isGround ? 0.67 : 0.5);
    const isArc = this.orbit.arc(one, other) !== null;
    const isLeft = one.angle === null && (other.angle === null || (isGround && other.x > one.x));
    const aside = isLeft ? -8 : 8;
    set(entry.figures, {
      x: fixed(isArc ? this.orbit.x + (middle.x - this.orbit.x) * 0.88 : middle.x + aside),
      y: fixed(isArc ? this.orbit.y + (middle.y - this.orbit.y) * 0.88 + 4 : middle.y + 4),
      "text-anchor": isArc ? "middle" : aside < 0 ? "end" : "start",
    });
  }

  /** At its node; a memory that changes hands glides from the one to the other, outside the ring where both are on it. */
  placeMemory(entry, places, now_ms) {
    const to = places.get(entry.at);
    const from = places.get(entry.from) ?? to;
    const share = this.still.matches || !entry.from ? 1 : Math.min(1, (now_ms - entry.left_ms) / GLIDE_MS);
    const eased = share * share * (3 - 2 * share);
    const at = this.boxAt(entry, from, to, eased);
    set(entry.mark, { transform: `translate(${fixed(at.x)} ${fixed(at.y)})` });
  }

  boxAt(entry, from, to, share) {
    const place = (at) => boxPlace(at, entry.row, entry.width, this.orbit);
    const arc = share < 1 ? this.orbit.arc(from, to) : null;
    if (arc !== null) {
      const angle = from.angle + arc * share;
      return place({ ...this.orbit.at(angle), angle });
    }
    const [one, other] = [place(from), place(to)];
    return { x: one.x + (other.x - one.x) * share, y: one.y + (other.y - one.y) * share };
  }
}

/** Brings a map of drawn things in line with a list: makes what is new, changes what stays, removes the rest. */
function keep(known, items, keyOf, layer, make, change) {
  const gone = new Set(known.keys());
  for (const item of items) {
    const key = keyOf(item);
    gone.delete(key);
    let entry = known.get(key);
    if (!entry) {
      entry = make(item);
      known.set(key, entry);
      layer.append(entry.mark);
    }
    entry.item = item;
    change(entry, item);
  }
  for (const key of gone) {
    known.get(key).mark.remove();
    known.delete(key);
  }
}

function shapeOf(kind) {
  if (kind === "Cloud") return svg("rect", { class: "body", x: -11, y: -8, width: 22, height: 16, rx: 8 });
  if (kind === "Edge") return svg("path", { class: "body", d: "M0-10L10 8H-10Z" });
  return svg("circle", { class: "body", r: 9 });
}
