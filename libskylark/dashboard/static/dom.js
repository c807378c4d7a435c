// Elements, made so that whatever comes from events is text and never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; properties whose name begins with "on" are listeners, children are elements or text. */
export function el(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

/** The same for SVG. */
export function svg(name, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, name), properties, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/**
 * Gives an element other children. One that was there already, in the same words, stays: a click on it ends where it
 * began, the keyboard keeps its place, and a picture is not loaded again.
 */
export function fill(element, ...children) {
  const wanted = children.flat().filter((child) => child !== null && child !== undefined);
  const left = [...element.childNodes];
  const placed = wanted.map((child) => {
    const node = typeof child === "string" ? document.createTextNode(child) : child;
    const same = left.findIndex((other) => other.isEqualNode(node));
    return same < 0 ? node : left.splice(same, 1)[0];
  });
  left.forEach((child) => child.remove()); // first, so that what stays need not be moved
  placed.forEach((node, place) => {
    const at = element.childNodes[place] ?? null;
    if (at !== node) element.insertBefore(node, at);
  });
}

export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const text = String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** A length or a place in a picture, as an attribute has it. */
export function fixed(number) {
  return number.toFixed(1);
}

/** A row of a list that opens something; `key` tells it from another one in the same words. */
export function row(key, onclick, ...children) {
  return el("li", {}, el("button", { type: "button", class: "row", "data-key": key, onclick }, ...children));
}

/** Rows of cells, which are words or elements. */
export function table(rows, columns) {
  return el("table", {},
    el("thead", {}, el("tr", {}, ...columns.map((column) => el("th", { scope: "col" }, column)))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, cell))))));
}

export function empty(text) {
  return el("li", { class: "empty" }, text);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}
