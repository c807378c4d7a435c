// How figures, times and names are told.

const UNITS = ["B", "KiB", "MiB", "GiB"];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "?";
  let unit = 0;
  while (bytes >= 1024 && unit < UNITS.length - 1) { bytes /= 1024; unit += 1; }
  return `${unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`;
}

export function ms(value) {
  if (value === null || value === undefined) return "?";
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 10 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
}

export function count(number) {
  return number === null || number === undefined ? "?" : number.toLocaleString("en");
}

export function several(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** The time of day of Unix seconds or of an RFC 3339 text, where the reader is. */
export function clock(time) {
  const date = typeof time === "number" ? new Date(time * 1000) : new Date(time ?? NaN);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString("en-GB");
}

/** `dev.skylark.frame.captured` without the part that all have. */
export function type(name) {
  return String(name).replace(/^dev\.(skylark|knative)\./, "");
}

export function short(id) {
  return /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(id) ? id.slice(0, 8) : id;
}

export function place(lon, lat) {
  if (lon === null || lat === null || lon === undefined || lat === undefined) return "no georeference";
  return `${Math.abs(lat).toFixed(4)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(4)}° ${lon < 0 ? "W" : "E"}`;
}

export const KINDS = { Sat: "satellite", Cloud: "cloud", Edge: "edge" };
