// The constellation as it moves: nodes, links with their load, events and state on their way, memories where they live.

import { fill, fixed, set, svg } from "./dom.js";
import { Orbit } from "./orbit.js";
import { Travellers } from "./travellers.js";
import { KINDS, several, size } from "./words.js";

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
    this.layers = Object.fromEntries(["ground", "links", "labels", "travellers", "nodes", "memories"].map((name) => [name, svg("g", { class: name })]));
    fill(picture, Object.values(this.layers));
    this.known = { nodes: new Map(), links: new Map(), memories: new Map() };
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
    const upcoming = (this.state.next_links ?? []).map((link) => ({ ...link, upcoming: true }));
    const links = [...this.state.links, ...upcoming];
    keep(this.known.links, links, (link) => `${link.source} ${link.target} ${link.upcoming ?? ""}`, this.layers.links, () => {
      const mark = svg("g", {}, svg("path", {}), svg("text", { class: "link-figures" }), svg("title"));
      return { mark, line: mark.children[0], figures: mark.children[1], title: mark.children[2] };
    }, (entry, link) => {
      const load = Math.min(1, (link.messages_per_s ?? 0) / PER_S_FULL);
      const isCut = link.state && link.state !== "open";
      const isGround = this.state.rotation && [link.source, link.target].includes(this.state.access) && [link.source, link.target].includes(this.state.rotation.ground);
      set(entry.mark, { class: `link${link.upcoming ? " upcoming" : ""}${isCut ? " cut" : ""}${isGround ? " access" : ""}`, "data-link": `${link.source} ${link.target}` });
      set(entry.line, { "stroke-width": 1.5 + 4 * Math.sqrt(load) });
      const told = [`${link.latency_ms} ms`];
      if (isGround) told.push(`${link.bandwidth_mbps} Mbit/s`);
      if (link.messages_per_s) told.push(`${link.messages_per_s.toFixed(1)}/s`);
      entry.figures.textContent = link.upcoming ? "" : isCut ? "cut" : told.join(" · ");
      entry.title.textContent = `${link.source} – ${link.target}: ${link.latency_ms} ms, up to ${link.jitter_ms} ms more, ${link.bandwidth_mbps} Mbit/s`
        + (link.upcoming ? ", from the next tick on" : `; ${link.messages_per_s} messages/s and ${link.state_mbps} Mbit/s of state in the last ten seconds`);
      entry.isGround = isGround;
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
      if (node.states) notes.push(several(node.states, "state"));
      set(entry.mark, {
        class: `node ${node.type} ${role}${node.fault ? " silent" : ""}`,
        "aria-label": `${node.name}, ${KINDS[node.type]}${role ? `, ${role === "above" ? "above the ground area" : "comes next"}` : ""}${node.fault ? ", does not answer" : ""}`,
      });
      entry.note.textContent = node.fault ? "does not answer" : notes.join(" · ");
    });
  }

  updateMemories() {
    const chips = this.state.memories.flatMap((memory) => [
      { ...memory, at: memory.node, key: `${memory.function} ${memory.partition}${memory.phase === "kept" ? memory.node : ""}` },
      ...(memory.to ? [{ ...memory, at: memory.to, ghost: true, key: `${memory.function} ${memory.partition} ghost` }] : []),
    ]);
    const places = new Map();
    keep(this.known.memories, chips, (chip) => chip.key, this.layers.memories, () => {
      const mark = svg("g", {}, svg("rect", { rx: 4, height: 16, y: -12 }), svg("text"), svg("title"));
      return { mark, box: mark.children[0], words: mark.children[1], title: mark.children[2] };
    }, (entry, chip) => {
      const row = places.get(chip.at) ?? 0;
      places.set(chip.at, row + 1);
      const phase = chip.ghost ? (chip.phase === "leaving" ? "commit" : "copy") : chip.phase === "leaving" ? "fenced" : size(chip.size_bytes);
      if (entry.at && entry.at !== chip.at) Object.assign(entry, { from: entry.at, left_ms: performance.now() });
      Object.assign(entry, { at: chip.at, row, text: this.orbit.isSmall ? chip.function : `${chip.function} ${phase}` });
      set(entry.mark, { class: `memory${chip.ghost ? " ghost" : ""} ${chip.phase}`, "data-memory": chip.function, "data-at": chip.at });
      entry.words.textContent = entry.text;
      entry.title.textContent = `memory of ${chip.function} for ${chip.partition}: ${chip.phase}`;
      entry.width = 6.1 * entry.text.length + 12;
      set(entry.box, { width: entry.width, x: -entry.width / 2 });
    });
  }

  // Where it is

  place(now_ms = performance.now()) {
    const places = new Map(this.state.nodes.map((node) => [node.name, this.orbit.node(node.name, this.state)]));
    for (const [name, entry] of this.known.nodes) this.placeNode(name, entry, places.get(name), now_ms);
    for (const entry of this.known.links.values()) this.placeLink(entry, places);
    for (const entry of this.known.memories.values()) this.placeMemory(entry, places, now_ms);
    this.travellers.place(places, now_ms);
  }

  placeNode(name, entry, at, now_ms) {
    const flash = this.flashes.get(name);
    if (flash && flash.until_ms < now_ms) this.flashes.delete(name);
    entry.mark.classList.toggle("runs", Boolean(flash && flash.until_ms >= now_ms));
    entry.mark.classList.toggle("failed", Boolean(flash?.failed && flash.until_ms >= now_ms));
    set(entry.mark, { transform: `translate(${fixed(at.x)} ${fixed(at.y)})` });
    const { dx, dy, anchor } = labelOf(at, this.orbit.isSmall);
    set(entry.name, { x: fixed(dx), y: fixed(dy), "text-anchor": anchor });
    set(entry.note, { x: fixed(dx), y: fixed(dy + 13), "text-anchor": anchor });
  }

  placeLink(entry, places) {
    const [one, other] = [places.get(entry.item.source), places.get(entry.item.target)];
    set(entry.line, { d: this.orbit.line(one, other) });
    const middle = this.orbit.between(one, other, entry.isGround ? 0.67 : 0.5);
    const isArc = this.orbit.arc(one, other) !== null;
    const isLeft = one.angle === null && (other.angle === null || (entry.isGround && other.x > one.x));
    const aside = isLeft ? -8 : 8;
    set(entry.figures, {
      x: fixed(isArc ? this.orbit.x + (middle.x - this.orbit.x) * 0.88 : middle.x + aside),
      y: fixed(isArc ? this.orbit.y + (middle.y - this.orbit.y) * 0.88 + 4 : middle.y + 4),
      "text-anchor": isArc ? "middle" : aside < 0 ? "end" : "start",
    });
  }

  /** At its node; a memory that changes hands glides from the one to the other. */
  placeMemory(entry, places, now_ms) {
    const to = chipPlace(places.get(entry.at), entry, this.orbit.isSmall);
    const from = entry.from && places.has(entry.from) ? chipPlace(places.get(entry.from), entry, this.orbit.isSmall) : to;
    const share = this.still.matches || !entry.from ? 1 : Math.min(1, (now_ms - entry.left_ms) / GLIDE_MS);
    const eased = share * share * (3 - 2 * share);
    set(entry.mark, { transform: `translate(${fixed(from.x + (to.x - from.x) * eased)} ${fixed(from.y + (to.y - from.y) * eased)})` });
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

function labelOf(at, isSmall) {
  if (at.angle === null) return { dx: 18, dy: 0, anchor: "start" };
  const [far, high] = isSmall ? [30, 24] : [44, 26];
  return { dx: far * Math.cos(at.angle), dy: high * Math.sin(at.angle) + 1, anchor: "middle" };
}

/** Beside the node's name, away from the middle of the picture. */
function chipPlace(at, chip, isSmall) {
  if (at.angle === null) return { x: at.x - 20 - chip.width / 2, y: at.y + 4 + 18 * chip.row };
  const { dx, dy } = labelOf(at, isSmall);
  return { x: at.x + dx, y: at.y + dy + (Math.sin(at.angle) < 0 ? -20 - 19 * chip.row : 32 + 19 * chip.row) };
}
