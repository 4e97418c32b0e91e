// Short descriptions of payloads. The server has decoded them, where it could.

import { cut } from "./safe.js";

/** The value of a settled promise on one line, or its error message. */
export function brief(payload, most = 60) {
  if (!payload || payload.text === "") return "nothing";
  return cut(failure(payload)?.message ?? payload.text.replace(/\s+/g, " "), most);
}

/** JSON of up to this length stays on one line. */
const ONE_LINE = 80;

/** The payload, indented if it is complete JSON; else unchanged. */
export function readable(payload) {
  const parsed = parse(payload);
  if (parsed === undefined || payload.text.length <= ONE_LINE) return payload.text;
  return JSON.stringify(parsed, null, 2);
}

/** The arguments of a call without their envelope: positional ones, and named ones if there are any. */
export function argumentsOf(payload) {
  const { func, args, kwargs } = parse(payload) ?? {};
  if (typeof func !== "string" || !Array.isArray(args)) return payload;
  const named = kwargs && Object.keys(kwargs).length > 0;
  return { ...payload, text: JSON.stringify(named ? { args, kwargs } : args) };
}

/** An error as SDKs write it: {type, message, stack, rest}, or null. A pickle is only searched for its class name. */
export function failure(payload) {
  const value = parse(payload ?? { cut: true });
  if (value === null || typeof value !== "object" || !("__type" in value) || typeof value.message !== "string") return null;
  const { __type, message, name, stack, [PICKLE]: pickle, ...rest } = value;
  const type = typeof name === "string" ? name : typeof pickle === "string" ? pickledClass(pickle) : "";
  return { type, message, stack: typeof stack === "string" ? stack : "", rest: Object.keys(rest).length ? JSON.stringify(rest, null, 2) : "" };
}

const PICKLE = "__py_pickle";

/** Module and class are the two short strings before the opcode that looks up the class. */
function pickledClass(base64) {
  try {
    const [, module, name] = atob(base64).match(/\x8c[^]([\w.]+)\x94?\x8c[^]([\w.]+)\x94?\x93/) ?? [];
    return name ? (module === "builtins" ? name : `${module}.${name}`) : "";
  } catch {
    return "";
  }
}

function parse(payload) {
  if (payload.cut) return undefined;
  try {
    return JSON.parse(payload.text);
  } catch {
    return undefined;
  }
}
