// Builds elements. Data always becomes text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Makes an HTML element; children are nodes or texts. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Makes an SVG element. */
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Makes a table in a box that scrolls; cells are texts or nodes, `numbers` the right-aligned columns. */
export function table(label, columns, rows, numbers = []) {
  const kind = (at) => (numbers.includes(at) ? "number" : null);
  const head = columns.map((column, at) => make("th", { scope: "col", class: kind(at) }, column));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell, at) => asCell(cell, kind(at)))));
  const whole = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  return make("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, whole);
}

function asCell(cell, kind) {
  if (cell instanceof HTMLTableCellElement) return cell;
  return make("td", { class: kind }, cell ?? "–");
}

/** Makes a list of names and values; a third part is the class of the pair. */
export function facts(pairs) {
  const parts = pairs.map(([name, value, kind]) => make("div", { class: kind }, make("dt", {}, name), make("dd", {}, value)));
  return make("dl", { class: "facts" }, ...parts);
}

/** Makes a highlighted message. */
export function note(text, isBad = false) {
  return make("p", { class: isBad ? "note bad" : "note", role: isBad ? "alert" : null }, text);
}

/** Makes a colored label for a state. */
export function badge(word) {
  return make("span", { class: `badge ${word}` }, word);
}

/** 2026-11-24T18:45:10.123Z -> 2026-11-24 18:45:10; times are UTC everywhere. */
export function time(text) {
  return text ? text.slice(0, 19).replace("T", " ") : "–";
}

/** Formats seconds for people. */
export function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 2 * 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Formats a count with thousands separators. */
export function count(number) {
  return typeof number === "number" ? number.toLocaleString("en-US") : "–";
}

/** Formats a number with four decimals. */
export function figure(number) {
  return typeof number === "number" ? number.toFixed(4) : "–";
}
