// Alarms as a list, and where they are: a small map with a grid of degrees and a scale.

import { empty, fill, row, svg, el } from "./dom.js";
import { clock, count, place, several } from "./words.js";

const METRES_PER_DEGREE = 111_195;
const LEAST_SPAN_DEGREES = 0.04;
const STEPS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];
const SHOWN = 30;
const FRAMES = 3; // an incident ends when so many frames do not show it
const REACH_M = 400;

export function drawAlarms(map, list, total, state, openJourney) {
  const seen = state.frames.slice(0, FRAMES).flatMap((frame) => frame.hotspots);
  const burns = (alarm) => seen.some((spot) => isNear(alarm, spot));
  const sorted = [...state.alarms.filter(burns), ...state.alarms.filter((alarm) => !burns(alarm))];
  const burning = state.alarms.filter(burns).length;
  fill(total, sorted.length ? `${burning} burning, ${several(sorted.length, "alarm")}` : "");
  const rows = sorted.slice(0, SHOWN).map((alarm) => line(alarm, burns(alarm), () => openJourney(alarm.chain)));
  fill(list, rows.length ? rows : empty("No alarm: no fire was seen in two frames."));
  drawMap(map, state, burns);
}

function line(alarm, burns, onclick) {
  const item = row(`alarm ${alarm.id}`, onclick,
    el("span", { class: "mark fire", "aria-hidden": "true" }, "▲"),
    el("span", { class: "main" }, place(alarm.lon, alarm.lat)),
    el("span", { class: "dim" }, `${clock(alarm.time)} · ${count(Math.round(alarm.area_m2 ?? 0))} m² · ${burns ? "burning" : "no longer seen"}`));
  item.firstChild.classList.toggle("out", !burns);
  return item;
}

/** Whether a hotspot may be the fire of an alarm: by its place on earth, else by its pixel. */
function isNear(alarm, spot) {
  if (!isNumber(alarm.lon) || !isNumber(spot.lon)) return Math.hypot(alarm.x - spot.x, alarm.y - spot.y) < 12;
  const east = (alarm.lon - spot.lon) * Math.cos((alarm.lat * Math.PI) / 180);
  return Math.hypot(east, alarm.lat - spot.lat) * METRES_PER_DEGREE < REACH_M;
}

function drawMap(map, state, burns) {
  const hot = (state.frames[0]?.hotspots ?? []).filter((spot) => isNumber(spot.lon) && !spot.persistent);
  const alarms = state.alarms.filter((alarm) => isNumber(alarm.lon) && isNumber(alarm.lat));
  alarms.sort((one, other) => burns(one) - burns(other)); // what burns is drawn last, on top
  const width = map.clientWidth || 280;
  const height = map.clientHeight || 170;
  map.setAttribute("viewBox", `0 0 ${width} ${height}`);
  map.setAttribute("aria-label", `Map with ${several(alarms.length, "alarm")} and ${several(hot.length, "fire")} of the last frame`);
  if (!hot.length && !alarms.length) {
    fill(map, svg("text", { x: width / 2, y: height / 2, class: "map-empty", "text-anchor": "middle" }, "nothing burns"));
    return;
  }
  const view = viewOf([...hot, ...alarms], width, height);
  fill(map, grid(view, width, height),
    hot.map((spot) => svg("circle", { cx: view.x(spot.lon), cy: view.y(spot.lat), r: 8, class: "spot" },
      svg("title", {}, "burns in the last frame"))),
    alarms.map((alarm) => svg("path", {
      d: triangle(view.x(alarm.lon), view.y(alarm.lat), burns(alarm) ? 6 : 4), class: burns(alarm) ? "alarm" : "alarm out",
    }, svg("title", {}, `alarm ${alarm.fire}: ${place(alarm.lon, alarm.lat)}`))),
    scale(view, width, height));
}

/** A view with the same scale both ways; longitudes are as long as they are at its middle. */
function viewOf(points, width, height) {
  const [west, east] = extent(points.map((point) => point.lon));
  const [south, north] = extent(points.map((point) => point.lat));
  const middle = { lon: (west + east) / 2, lat: (south + north) / 2 };
  const squeeze = Math.max(0.05, Math.cos((middle.lat * Math.PI) / 180));
  const span = Math.max(LEAST_SPAN_DEGREES, ((east - west) * squeeze * height) / width, north - south);
  const perDegree = (height * 0.76) / span;
  return {
    perDegree, squeeze, middle,
    x: (lon) => width / 2 + (lon - middle.lon) * squeeze * perDegree,
    y: (lat) => height / 2 - (lat - middle.lat) * perDegree,
  };
}

function extent(numbers) {
  return [Math.min(...numbers), Math.max(...numbers)];
}

function grid(view, width, height) {
  const step = STEPS.find((degrees) => degrees * view.perDegree >= 56) ?? 45;
  const digits = step < 0.01 ? 3 : step < 0.1 ? 2 : 1;
  const lines = [];
  const half = { lon: width / 2 / view.perDegree / view.squeeze, lat: height / 2 / view.perDegree };
  for (let lon = Math.ceil((view.middle.lon - half.lon) / step) * step; lon < view.middle.lon + half.lon; lon += step) {
    const x = view.x(lon);
    lines.push(svg("line", { x1: x, x2: x, y1: 0, y2: height, class: "grid" }));
    if (x > 16 && x < width - 16) lines.push(svg("text", { x, y: 10, class: "degree", "text-anchor": "middle" }, `${lon.toFixed(digits)}°`));
  }
  for (let lat = Math.ceil((view.middle.lat - half.lat) / step) * step; lat < view.middle.lat + half.lat; lat += step) {
    const y = view.y(lat);
    lines.push(svg("line", { x1: 0, x2: width, y1: y, y2: y, class: "grid" }));
    if (y > 22 && y < height - 20) lines.push(svg("text", { x: 4, y: y - 3, class: "degree" }, `${lat.toFixed(digits)}°`));
  }
  return lines;
}

function scale(view, width, height) {
  const metres = [100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000, 500_000]
    .findLast((length) => (length / METRES_PER_DEGREE) * view.perDegree < 90) ?? 100;
  const length = (metres / METRES_PER_DEGREE) * view.perDegree;
  return [
    svg("path", { d: `M${width - 10 - length} ${height - 12}v4h${length}v-4`, class: "scale" }),
    svg("text", { x: width - 10, y: height - 16, class: "degree", "text-anchor": "end" }, metres < 1000 ? `${metres} m` : `${metres / 1000} km`),
  ];
}

function triangle(x, y, radius) {
  return `M${x} ${y - radius}l${radius} ${radius * 1.7}h${-2 * radius}z`;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
