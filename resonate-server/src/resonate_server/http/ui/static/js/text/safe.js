// Text from strangers, made fit to be read. What comes out is only ever put into text nodes and attributes of text.

const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const HIDDEN = /[\u0080-\u009f\u200b\u2028\u2029\u2060-\u2064\ufeff]/g;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const SPACING = /[\t\n]/g;

const named = (char) => `⟨${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const pictured = (char) => (char === "\u007f" ? "␡" : String.fromCharCode(0x2400 + char.charCodeAt(0)));

/** `text` on one line with everything seen that would otherwise act unseen: control characters, direction overrides. */
export function visible(text) {
  return lines(text).replace(SPACING, pictured);
}

/** The same, but line breaks and tabs do their work. */
export function lines(text) {
  return String(text ?? "")
    .toWellFormed()
    .replace(CONTROL, pictured)
    .replace(BIDI, named)
    .replace(HIDDEN, named);
}

/** At most `most` characters; the middle goes first, because ids tell themselves apart at both ends. */
export function shorten(text, most) {
  const chars = [...String(text ?? "")];
  if (chars.length <= most) return chars.join("");
  const head = Math.ceil((most - 1) / 2);
  return `${chars.slice(0, head).join("")}…${chars.slice(chars.length - (most - 1 - head)).join("")}`;
}

/** At most `most` characters from the beginning. */
export function cut(text, most) {
  const chars = [...String(text ?? "").slice(0, 2 * most + 2)];
  return chars.length <= most ? chars.join("") : `${chars.slice(0, most - 1).join("")}…`;
}

/** A process id short enough for a sentence: generated ones differ in their first characters, chosen ones at both ends. */
export function shortPid(pid) {
  const text = String(pid ?? "");
  if (/^[0-9a-f]{8}/i.test(text)) return text.slice(0, 4);
  return shorten(text, 10);
}

/** The name people use for a group: `service-pay` is pay. */
export const shortGroup = (group) => String(group ?? "").replace(/^service-(?=.)/, "");

/** Where a worker is reached; while it is gone, another one of its group. */
export const addressOf = ({ group, pid }) => `poll://any@${[group, pid].map((text) => encodeURIComponent(text.toWellFormed())).join("/")}`;

/** What `id` has that `parent` has not: `order:1` below `order` is `:1`. */
export function ownPart(id, parent) {
  if (parent && id !== parent && id.startsWith(parent)) return id.slice(parent.length);
  return id;
}
