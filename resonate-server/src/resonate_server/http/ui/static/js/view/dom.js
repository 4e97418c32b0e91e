// Elements from data. Strings become text nodes and go through `visible`, so no view can forget it.

import { visible } from "../text/safe.js";

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`on…` are listeners, `false` and `null` are omitted) and children. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child.nodeType ? child : visible(child));
  return node;
}

function set(node, name, value) {
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else attribute(node, name, value);
}

/** Set or remove an attribute; touch the document only if its value changes. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : visible(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** Make the children of `parent` match `items`, in their order, reusing existing nodes. */
export function reconcile(parent, items, attributeName, key, create, update) {
  const old = new Map([...parent.children].map((node) => [node.key, node]));
  items.forEach((item, index) => {
    const id = key(item);
    const node = old.get(id) ?? create(item);
    old.delete(id);
    node.key = id;
    attribute(node, attributeName, id);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
    update(node, item);
  });
  for (const node of old.values()) node.remove();
}

/** Set the text of a node if it differs. */
export function say(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/** Show as many of `parts` in `node` as fit on its line, each of them whole. */
export function sayParts(node, parts) {
  const key = parts.join("\u0000");
  if (node.parts === key) return;
  node.parts = key;
  node.replaceChildren(...parts.map((part) => el("span", {}, part)));
}

/** Number of characters kept at the end of an id that does not fit. */
const TAIL = 6;

/** Show an id in `node`; if it does not fit, its middle is cut. */
export function sayId(node, id) {
  const chars = [...visible(id)];
  const head = chars.length > 3 * TAIL ? chars.length - TAIL : chars.length;
  sayParts(node, [chars.slice(0, head).join(""), chars.slice(head).join("")].filter(Boolean));
}

/** Text of unknown direction, isolated so that it does not reorder its surroundings. */
export const bdi = (text, attributes = {}) => el("bdi", attributes, text);

/** One of the symbols in index.html. */
export const icon = (name) =>
  svg("svg", { class: "icon", "aria-hidden": "true", viewBox: "0 0 16 16" }, svg("use", { href: `#i-${name}` }));

const STATE_ICONS = ["pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout"];
export const stateIcon = (state) => icon(STATE_ICONS.includes(state) ? state : "pending");

export const byId = (id) => document.getElementById(id);

/** Browsers offer the clipboard API only over HTTPS or on localhost; elsewhere the old way still works. */
async function toClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const field = el("textarea", { class: "unseen" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

/** Copy `text`, and confirm it on the button for a while. */
export async function copy(text, button) {
  const label = button.querySelector(".label") ?? button;
  const before = (button.dataset.before ??= label.textContent);
  label.textContent = (await toClipboard(text)) ? "Copied" : "Not allowed";
  setTimeout(() => (label.textContent = before), 1500);
}
