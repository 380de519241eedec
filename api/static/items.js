// Items and events as cards: title, price, picture.

import { count, make, time } from "./elements.js";

const WANTED = ["title", "price", "category", "image_url"];
const titles = new Map(); // of every item shown so far, by id

/** Chooses the catalog columns to ask for. */
export function fieldsOf(columns) {
  return WANTED.filter((name) => name in columns).join(",");
}

/** The title of an item shown before, or its id. */
export function nameOf(item) {
  return titles.get(item) ?? item;
}

/** Shows an answer: the items, the counts of excluded ones, and notes. */
export function hits(answer, href) {
  if (!answer.hits.length) return [make("p", {}, "No item is eligible."), leftOut(answer)];
  const cards = answer.hits.map((hit) => make("li", {}, picture(hit), words(hit, href, reason(hit))));
  return [make("ul", { class: "hits" }, ...cards), leftOut(answer)];
}

/** Shows the events of a history as cards. */
export function events(history, href) {
  const cards = history.map((event) => {
    const said = make("p", { class: "quiet" }, `${event.kind}, ${time(event.occurred_at)}${event.known ? "" : ", an item that nobody knows"}`);
    return make("li", {}, picture(event), words(event, href, said));
  });
  return make("ul", { class: "hits" }, ...cards);
}

function words(item, href, more) {
  const { title, price } = item.fields ?? {};
  const name = title ? String(title) : item.item_id;
  titles.set(item.item_id, name);
  const link = make("a", { href: href(item.item_id), title: "Items like this one" }, name);
  const cost = typeof price === "number" ? price.toFixed(2) : price === null || price === undefined ? null : String(price);
  const line = make("p", {}, make("code", {}, item.item_id), cost === null ? null : " · ", cost === null ? null : make("span", { class: "price" }, cost));
  return make("div", { class: "words" }, make("p", {}, link), line, more);
}

function reason(hit) {
  return make("p", { class: "quiet" }, make("span", { class: "reason" }, hit.reason), ` ${hit.score === null ? "" : hit.score.toPrecision(3)}`);
}

function leftOut(answer) {
  const { unlisted, sold_out, filtered, bought, excluded } = answer.dropped;
  const parts = [[unlisted, "not in the catalog"], [sold_out, "sold out"], [filtered, "not met by the filter"], [bought, "bought"], [excluded, "excluded"]];
  const gone = parts.filter(([number]) => number).map(([number, word]) => `${count(number)} ${word}`);
  return make("p", { class: "quiet" }, `${count(answer.eligible)} items are eligible. Left out: ${gone.join(", ") || "none"}.`);
}

/** The picture of an item; without one the beginning of its title shows. */
function picture(item) {
  const { title, image_url } = item.fields ?? {};
  const box = make("div", { class: "picture", "aria-hidden": "true" }, initials(title ? String(title) : item.item_id));
  const address = pictureAddress(image_url);
  if (address !== null) {
    const image = make("img", { alt: "", loading: "lazy", referrerpolicy: "no-referrer" });
    image.addEventListener("error", () => image.remove());
    image.src = address;
    box.append(image);
  }
  return box;
}

/** Whether an address may be a picture's: http, https, or relative to this page. */
function pictureAddress(value) {
  if (typeof value !== "string" || !value.trim()) return null;
  try {
    const address = new URL(value, document.baseURI);
    return ["http:", "https:"].includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

function initials(name) {
  const found = name.split(/\s+/).map((word) => [...word].find((letter) => /[\p{L}\p{N}]/u.test(letter))).filter(Boolean);
  return found.slice(0, 2).join("").toUpperCase() || "?";
}
