// The last chains: when each began, what it began with, the nodes that it passed, how long it took.

import { el, empty, fill, row } from "./dom.js";
import { clock, ms, several, short, type } from "./words.js";

const SHOWN = 15;
const MOST_NODES = 4;

export function drawChains(list, state, withClockwork, openJourney) {
  const chains = state.chains.filter((chain) => withClockwork || !chain.clockwork);
  chains.sort((one, other) => other.began_s - one.began_s);
  const shown = chains.slice(0, SHOWN);
  // A power of two, so that the other rows stay as they are when a longer chain comes or goes.
  const longest_ms = 2 ** Math.ceil(Math.log2(Math.max(1, ...shown.map((chain) => chain.duration_ms))));
  fill(list, shown.length
    ? shown.map((chain) => line(chain, longest_ms, () => openJourney(chain.id)))
    : empty("No event has come yet; `skylark send` sends one."));
}

function line(chain, longest_ms, onclick) {
  const bar = el("span", { class: "bar" });
  bar.style.width = `${Math.max(2, (100 * chain.duration_ms) / longest_ms)}%`;
  return row(`chain ${chain.id}`, onclick,
    el("span", { class: "dim time" }, clock(chain.began_s)),
    el("span", { class: "main", title: chain.id }, type(chain.type), " ", el("code", {}, short(chain.id))),
    el("span", { class: "dim path" }, path(chain.nodes)),
    el("span", { class: "track", "aria-hidden": "true" }, bar),
    el("span", { class: "figure" }, ms(chain.duration_ms)),
    ending(chain));
}

function path(nodes) {
  const first = nodes.slice(0, MOST_NODES).join(" → ");
  return nodes.length > MOST_NODES ? `${nodes[0]} → ${several(nodes.length - 1, "node")}` : first;
}

function ending(chain) {
  if (chain.dead_letters) return el("span", { class: "end bad" }, several(chain.dead_letters, "dead letter"));
  if (!chain.ended) return el("span", { class: "end going" }, "under way");
  if (chain.retries) return el("span", { class: "end" }, several(chain.retries, "retry", "retries"));
  return el("span", { class: "end" }, "ended");
}
