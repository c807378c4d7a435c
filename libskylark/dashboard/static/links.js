// The links of the epoch as a table: figures, load, and whether each is cut; below the picture, and in a node's dialog.

import { byId, el, fill, table } from "./dom.js";
import { several } from "./words.js";

export const LINK_COLUMNS = ["link", "ms", "Mbit/s", "messages / s", "state Mbit/s", ""];

export function drawLinks(place, summary, state) {
  const cut = state.links.filter(isCut).length;
  fill(summary, several(state.links.length, "link"), cut ? el("b", { class: "bad" }, `, ${cut} cut`) : "");
  fill(place, table(linkRows(state.links), LINK_COLUMNS));
  byId("links").hidden = state.links.length === 0;
}

/** One row for each link; its load is that of the last ten seconds, both ways together. */
export function linkRows(links) {
  return links.map((link) => [
    `${link.source} - ${link.target}`,
    String(link.latency_ms),
    bandwidth(link),
    link.messages_per_s.toFixed(1),
    link.state_mbps.toFixed(2),
    standing(link),
  ]);
}

export function isCut(link) {
  return link.state !== undefined && link.state !== "open";
}

/** What the picture tells of a link. */
export function figuresOf(link) {
  if (link.upcoming) return "";
  if (isCut(link)) return cutWords(link);
  const told = [`${link.latency_ms} ms`];
  if (link.is_ground_link) told.push(`${bandwidth(link)} Mbit/s`);
  if (link.messages_per_s) told.push(`${link.messages_per_s.toFixed(1)}/s`);
  return told.join(" · ");
}

/** Mbit/s; a limit may have been taken away by hand. */
export function bandwidth(link) {
  return link.bandwidth_mbps === null ? "no limit" : String(link.bandwidth_mbps);
}

function cutWords(link) {
  return `cut (${link.state})`;
}

function standing(link) {
  if (isCut(link)) return el("b", { class: "bad" }, cutWords(link));
  return link.is_ground_link ? el("span", { class: "ground" }, "ground link") : "open";
}
