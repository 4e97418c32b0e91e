// Makes untrusted text readable. The results are only ever put into text nodes and text attributes.

/** What has no shape of its own, or changes the direction. Two ids that differ only in these would look the same. */
const HIDDEN = /(?![\u200c\u200d\ufe0e\ufe0f])[\u0080-\u009f\u2028\u2029\ufff9-\ufffb\p{Bidi_Control}\p{Default_Ignorable_Code_Point}]/gu;
/** Joiners and variation selectors, except where a script or an emoji needs them. */
const JOINER = /(?<![^\0-\x7f\u200c\u200d\ufe0e\ufe0f])(?<!\ufe0f(?=\u200d))[\u200c\u200d\ufe0e\ufe0f]/gu;
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const SPACING = /[\t\n]/g;

const named = (char) => `⟨${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const pictured = (char) => (char === "\u007f" ? "␡" : String.fromCharCode(0x2400 + char.charCodeAt(0)));

/** `text` on one line, with invisible characters made visible: control characters, direction overrides. */
export function visible(text) {
  return lines(text).replace(SPACING, pictured);
}

/** The same, but with line breaks and tabs intact. */
export function lines(text) {
  return String(text ?? "")
    .toWellFormed()
    .replace(CONTROL, pictured)
    .replace(JOINER, named)
    .replace(HIDDEN, named);
}

/** At most `most` characters. The middle is cut, because ids differ at both ends. */
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

/** A process id short enough for a sentence: generated ids differ in their first characters, chosen ones at both ends. */
export function shortPid(pid) {
  const text = String(pid ?? "");
  if (/^[0-9a-f]{8}/i.test(text)) return text.slice(0, 4);
  return shorten(text, 10);
}

/** The colloquial name of a group: `pay` for `service-pay`. */
export const shortGroup = (group) => String(group ?? "").replace(/^service-(?=.)/, "");

/** The address of a worker; while it is gone, another worker of its group gets the messages. */
export const addressOf = ({ group, pid }) => `poll://any@${[group, pid].map((text) => encodeURIComponent(text.toWellFormed())).join("/")}`;

/** The part of `id` after `parent`: `:1` for `order:1` below `order`. */
export function ownPart(id, parent) {
  if (parent && id !== parent && id.startsWith(parent)) return id.slice(parent.length);
  return id;
}
