// Payloads in few words. The server has decoded them; what it could not decode comes as it is.

import { cut } from "./safe.js";

/** What a promise was settled with, on one line: the value, or the message of the error. */
export function brief(payload, most = 60) {
  if (!payload || payload.text === "") return "nothing";
  const parsed = parse(payload);
  return cut(messageOf(parsed) ?? payload.text.replace(/\s+/g, " "), most);
}

/** JSON that fits on a line stays on one. */
const ONE_LINE = 80;

/** Indented, if it is JSON and whole; else as it came. */
export function readable(payload) {
  const parsed = parse(payload);
  if (parsed === undefined || payload.text.length <= ONE_LINE) return payload.text;
  return JSON.stringify(parsed, null, 2);
}

function parse(payload) {
  if (payload.cut) return undefined;
  try {
    return JSON.parse(payload.text);
  } catch {
    return undefined;
  }
}

function messageOf(value) {
  const isError = value !== null && typeof value === "object" && "__type" in value;
  return isError && typeof value.message === "string" ? value.message : undefined;
}
