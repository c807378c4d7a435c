// What is on its way: events as dots, state and memory as boxes, each along the nodes that it passes.

import { fixed, set, svg } from "./dom.js";
import { size, type } from "./words.js";

const HOP_MS = 650; // what travels is slowed down to be seen: links take milliseconds
const MOST = 90;

export class Travellers {
  constructor(layer, orbit) {
    this.layer = layer;
    this.orbit = orbit;
    this.known = [];
  }

  add(item) {
    if (this.known.length >= MOST) return;
    const shape = item.what === "event"
      ? svg("circle", { r: item.clockwork ? 2 : 4.5, class: item.clockwork ? "event faint" : "event" })
      : svg("rect", { x: -5, y: -5, width: 10, height: 10, class: "state", transform: item.what === "memory" ? "rotate(45)" : "" });
    const words = item.what === "event" ? type(item.type) : `${item.what} ${item.move.what}, ${size(item.move.sent_bytes)}`;
    const mark = svg("g", {}, shape, svg("title", {}, words));
    this.layer.append(mark);
    this.known.push({ mark, path: item.path, began_ms: performance.now() });
  }

  /** Moves each on between the places of nodes, and forgets those that have arrived. */
  place(places, now_ms) {
    this.known = this.known.filter((traveller) => this.placeOne(traveller, places, now_ms));
  }

  placeOne(traveller, places, now_ms) {
    const hops = traveller.path.length - 1;
    const done = Math.max(0, (now_ms - traveller.began_ms) / HOP_MS);
    const hop = Math.min(hops - 1, Math.floor(done));
    const [one, other] = [places.get(traveller.path[hop]), places.get(traveller.path[hop + 1])];
    if (done >= hops || !one || !other) {
      traveller.mark.remove();
      return false;
    }
    const at = this.orbit.between(one, other, done - hop);
    set(traveller.mark, { transform: `translate(${fixed(at.x)} ${fixed(at.y)})` });
    return true;
  }
}
