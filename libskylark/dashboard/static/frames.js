// The last frames, with the fires that were detected drawn on the picture.

import { el, fill, svg } from "./dom.js";
import { clock, count, several } from "./words.js";

const MARGIN_PX = 3; // between a fire and its frame
let chosen = null; // a frame that the reader wants to see, in place of the latest
let drawn = "";
let asked = 0; // how many frames were to be shown so far, and which of them is
let shown = 0;

export function drawFrames(place, thumbs, state) {
  if (chosen && !state.frames.some((frame) => frame.id === chosen)) chosen = null;
  const frame = state.frames.find((other) => other.id === chosen) ?? state.frames[0];
  const key = JSON.stringify([frame?.id, state.frames.map((other) => other.id)]);
  if (key === drawn) return;
  drawn = key;
  const choose = (id) => { chosen = id; drawFrames(place, thumbs, state); };
  if (!frame) {
    fill(place, el("p", { class: "empty" }, "No frame has come to detect yet."));
    return;
  }
  const next = figure(frame);
  const turn = asked += 1;
  const show = () => {
    if (turn < shown) return; // a later one was faster
    shown = turn;
    fill(place, next);
    fill(thumbs, state.frames.map((other) => thumb(other, other.id === frame.id, () => choose(other === state.frames[0] ? null : other.id))));
  };
  if (place.querySelector("img")) whenLoaded(next.querySelector("img"), show);
  else show();
}

/** The picture before stays, with its mark among the small ones, until the next one can be seen. */
function whenLoaded(image, show) {
  image.addEventListener("load", show);
  image.addEventListener("error", show);
}

function figure(frame) {
  const fires = frame.hotspots.filter((spot) => !spot.persistent).length;
  const told = [
    el("b", { class: fires ? "fire" : null }, several(fires, "fire")),
    ` · seen by ${frame.satellite ?? "nobody known"}, found on ${frame.detected_on} · ${clock(frame.time)}`,
  ];
  if (frame.cloud_fraction !== null && frame.cloud_fraction !== undefined) {
    told.push(` · ${Math.round(frame.cloud_fraction * 100)} % cloud`);
  }
  return el("figure", {}, picture(frame, `Frame of ${frame.area}: ${several(fires, "fire")}`), el("figcaption", {}, ...told));
}

function picture(frame, words) {
  const place = el("div", { class: "picture" });
  const image = el("img", { alt: words, src: address(frame), "data-frame": frame.id });
  image.addEventListener("load", () => place.append(overlay(frame, image.naturalWidth, image.naturalHeight)));
  image.addEventListener("error", () => fill(place, missing(frame)));
  place.append(image);
  return place;
}

/** Where nobody has the picture any more, the fires are still known. */
function missing(frame) {
  const boxes = frame.hotspots.map((spot) => spot.box).filter(Boolean);
  const extent = Math.max(256, ...boxes.flat());
  return [overlay(frame, extent, extent), el("p", { class: "empty" }, "The picture is gone; these are the fires found in it.")];
}

function overlay(frame, width, height) {
  const marks = frame.hotspots.filter((spot) => spot.box).map((spot) => {
    const [left, top, right, bottom] = spot.box;
    const words = `${spot.persistent ? "hot nearly always" : "fire"}, ${count(Math.round(spot.area_m2 ?? 0))} m²`;
    return svg("rect", {
      x: left - MARGIN_PX, y: top - MARGIN_PX, rx: 1.5,
      width: right - left + 2 * MARGIN_PX, height: bottom - top + 2 * MARGIN_PX,
      class: spot.persistent ? "hot known" : "hot",
    }, svg("title", {}, words));
  });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "overlay", "aria-hidden": "true" }, ...marks);
}

function thumb(frame, isShown, onclick) {
  const fires = frame.hotspots.filter((spot) => !spot.persistent).length;
  const label = `Frame of ${clock(frame.time)}, ${several(fires, "fire")}`;
  const image = el("img", { alt: "", src: address(frame) });
  image.addEventListener("error", () => image.remove());
  return el("li", {}, el("button", {
    type: "button", "aria-label": label, "aria-pressed": isShown, "data-key": frame.id, onclick,
  }, image, el("span", { class: fires ? "fire" : null }, String(fires))));
}

function address(frame) {
  return `/api/frames/${encodeURIComponent(frame.id)}/image`;
}
