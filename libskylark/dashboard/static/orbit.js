// Where everything is drawn: satellites on an ellipse around the ground, the one above the area at its top.

const TURN = 2 * Math.PI;
const TOP = -Math.PI / 2;
const GLIDE_PER_S = 5; // how fast the ring follows where it must jump: at the hour, or after a pause

/** Places of nodes and links for a picture of some size, at some moment. */
export class Orbit {
  constructor() {
    this.turned = null; // how many satellites have passed the top
    this.resize(640, 440);
  }

  resize(width, height) {
    const isSmall = width < 520;
    this.width = width;
    this.height = height;
    this.isSmall = isSmall;
    this.x = width / 2;
    this.aside = isSmall ? 8 : 10; // how far words may go beyond the picture's sides: as far as there is nothing else
    const [above, below] = isSmall ? [66, 58] : [70, 62]; // room for a node's words, and the box of a memory
    this.ry = Math.max(0, (height - above - below) / 2);
    this.y = above + this.ry;
    this.rx = width / 2 - (isSmall ? 50 : 78);
    this.ground = Math.min(this.rx * 0.5, this.ry * 0.56);
  }

  /** Turns the ring to where it belongs; `still` without the way between. */
  turn(state, seconds, elapsed_s, still) {
    const ring = ringOf(state);
    this.ring = ring;
    this.step = TURN / Math.max(1, ring.length);
    const above = ring.indexOf(state.access);
    if (above < 0) { this.turned = 0; return; }
    const into = still ? 0.5 : Math.min(1, Math.max(0, (seconds - state.epoch_began_s) / state.tick_s));
    const wanted = above + into - 0.5;
    if (this.turned === null || still) { this.turned = wanted; return; }
    const half = ring.length / 2;
    const behind = ((((wanted - this.turned + half) % ring.length) + ring.length) % ring.length) - half;
    const isNear = Math.abs(behind) < 0.05;
    this.turned += isNear ? behind : behind * Math.min(1, elapsed_s * GLIDE_PER_S);
  }

  angle(position) {
    return TOP + (position - this.turned) * this.step;
  }

  at(angle, scale = 1) {
    return { x: this.x + this.rx * scale * Math.cos(angle), y: this.y + this.ry * scale * Math.sin(angle) };
  }

  /** The place of a node, and for one on the ring its angle. */
  node(name, state) {
    const position = this.ring.indexOf(name);
    if (position >= 0) {
      const angle = this.angle(position);
      return { ...this.at(angle), angle };
    }
    const inside = state.nodes.filter((node) => !this.ring.includes(node.name));
    const line = inside.findIndex((node) => node.name === name);
    const gap = Math.min(46, (this.ground * 1.3) / Math.max(1, inside.length));
    return { x: this.x, y: this.y + 4 + gap * (line - (inside.length - 1) / 2) + (this.ring.length ? 10 : 0), angle: null };
  }

  /** A point between two nodes, `share` of the way: along the ring where both are neighbours on it. */
  between(one, other, share) {
    const arc = this.arc(one, other);
    if (arc !== null) return this.at(one.angle + arc * share);
    return { x: one.x + (other.x - one.x) * share, y: one.y + (other.y - one.y) * share };
  }

  /** The angle from one neighbour on the ring to the other; null where a straight line joins the two. */
  arc(one, other) {
    if (one.angle === null || other.angle === null) return null;
    const arc = Math.atan2(Math.sin(other.angle - one.angle), Math.cos(other.angle - one.angle));
    return Math.abs(arc) < this.step * 1.01 ? arc : null;
  }

  line(one, other) {
    const arc = this.arc(one, other);
    if (arc === null) return `M${one.x} ${one.y}L${other.x} ${other.y}`;
    return `M${one.x} ${one.y}A${this.rx} ${this.ry} 0 0 ${arc > 0 ? 1 : 0} ${other.x} ${other.y}`;
  }

  /** What the satellite above sees: from the area on the ground's rim up to its part of the ring. */
  beam() {
    const half = this.step / 2;
    const [left, right] = [this.at(TOP - half), this.at(TOP + half)];
    const [from, to] = this.rim();
    return `M${from.x} ${from.y}L${left.x} ${left.y}A${this.rx} ${this.ry} 0 0 1 ${right.x} ${right.y}L${to.x} ${to.y}`
      + `A${this.ground} ${this.ground} 0 0 0 ${from.x} ${from.y}Z`;
  }

  area() {
    const [from, to] = this.rim();
    return `M${from.x} ${from.y}A${this.ground} ${this.ground} 0 0 1 ${to.x} ${to.y}`;
  }

  rim() {
    return [-0.42, 0.42].map((aside) => ({
      x: this.x + this.ground * Math.cos(TOP + aside), y: this.y + this.ground * Math.sin(TOP + aside),
    }));
  }
}

/** The satellites in the order in which they pass; without a rotation, all nodes but those on the ground. */
function ringOf(state) {
  if (state.rotation) return state.rotation.satellites;
  return state.nodes.filter((node) => node.type === "Sat").map((node) => node.name);
}
