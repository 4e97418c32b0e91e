// The text of a phase, and the flag of a row that is stuck. Pure.
//
// The text comes in parts, the most important first: a stripe shows as many whole parts as fit.

import { isCall } from "../model/chain.js";
import { coarse } from "./durations.js";
import { cut, shortGroup, shortPid } from "./safe.js";

/** Why there is another attempt. Mark `again`: it repeats work that the previous attempt had begun. */
const CAUSES = {
  resumed: { mark: "on", text: ", continues after waiting" },
  continued: { mark: "on", text: ", continued by an operator" },
  gone: { mark: "again", text: ", as its worker was gone" },
  lease: { mark: "again", text: ", as its lease had ended" },
  released: { mark: "again", text: ", as it was given back" },
};

/** "on", "again", or null for a first attempt. */
export const markOf = (phase) => (phase.kind === "running" && CAUSES[phase.reason]?.mark) || null;

export function causeText(phase) {
  const cause = CAUSES[phase.reason];
  return cause ? `${cause.text}${phase.why ? `: ${phase.why}` : ""}` : "";
}

function runningParts(phase) {
  if (phase.step) return ["at work", markOf(phase) === "again" ? ", again from its beginning" : ""];
  const again = markOf(phase) === "again" ? ["again"] : [];
  return [...again, `${again.length ? ", " : ""}attempt ${phase.attempt}`, phase.pid ? ` · ${shortPid(phase.pid)}` : "", causeText(phase)];
}

/** `, waits for a and b`, with `name(id)` for each id. */
export function waitsFor(ids, name, begin = ", waits for ") {
  if (!ids?.length) return "";
  const more = ids.length > 2 ? ` and ${ids.length - 2} more` : "";
  return `${begin}${ids.slice(0, 2).map(name).join(" and ")}${more}`;
}

function gapParts(phase, group) {
  const who = cut(shortGroup(group), 24);
  const by = phase.pid ? ` (${shortPid(phase.pid)})` : "";
  if (phase.step) return ["broken off"];
  if (phase.reason === "absent") return [`no ${who}`, " connected", ", nothing is lost"];
  if (phase.reason === "nobody") return [`no ${who}`, " connected", `, waiting for ${group}`];
  if (phase.reason === "silent") return [`${who} gone`, by, ", its lease runs out"];
  if (phase.reason === "lease") return ["lease ended", ` of ${who}`, by, `, waiting for ${group}`];
  return [`${who} gone`, by, `, waiting for ${group}`];
}

const WAITING = { retry: "offered again", released: "handed back", resumed: "can continue", outside: "waits for somebody" };

/** Split the server's description of a problem into clauses. */
const clauses = (text) => text.split(/(?=[,:] )/);

function waitingParts(phase, row) {
  if (phase.reason === "outside") return ["waits", " to be settled", " by a person, or from elsewhere"];
  if (phase.trouble) return clauses(phase.trouble);
  return [WAITING[phase.reason] ?? `waits for ${row.promise.group}`];
}

/** The pause until the next attempt, if there is one. */
function pause(phase, row, now) {
  const until = row.promise.task?.retry_at;
  if (now === undefined || !until || phase.to !== null || !["waiting", "gap"].includes(phase.kind)) return [];
  return until > now ? [`, next attempt in ${coarse(until - now + 999)}`] : [", next attempt now"];
}

/** `nameOfId` names the promises it is suspended on. With `now`, the pause until the next attempt counts down. */
export function phaseParts(phase, row, nameOfId, now) {
  const [first, ...others] = PARTS[phase.kind]?.(phase, row, nameOfId) ?? unknownParts(phase);
  return [first, ...pause(phase, row, now), ...others].filter(Boolean);
}

const PARTS = {
  running: runningParts,
  waiting: waitingParts,
  suspended: (phase, _row, nameOfId) => ["suspended", waitsFor(phase.on, nameOfId)],
  gap: (phase, row) => gapParts(phase, row.group ?? ""),
  timer: () => ["holds nothing", ", the server keeps the time"],
  halted: () => ["halted", " by an operator"],
};

const unknownParts = ({ attempt }) => (attempt ? [`${attempt} ${attempt === 1 ? "attempt" : "attempts"}`, ", details no longer kept"] : ["not recorded", ", details no longer kept"]);

export const phaseText = (phase, row, nameOfId, now) => phaseParts(phase, row, nameOfId, now).join("");

const GAPS = { absent: "no worker", nobody: "no worker", lease: "lease lost" };

/** The worker's current code does not request the steps that were recorded. */
const MISFIT = /^the code of .* changed while/;

/**
 * What blocks a row, in two or three words that fit beside it: {kind, words}, or null. `isLate(worker, ttl)` tells whether
 * a worker's heartbeat is overdue.
 */
export function flagOf(row, isLate) {
  const { promise } = row;
  const phase = row.phases.at(-1);
  if (promise.state !== "pending" || !phase || phase.step) return null;
  if (phase.kind === "halted") return { kind: "halted", words: "halted" };
  if (promise.role === "promise") return { kind: "person", words: "waits for a person" };
  if (!isCall(promise)) return null;
  const { task } = promise;
  if (phase.kind === "gap") return { kind: "gap", words: GAPS[phase.reason] ?? "worker gone" };
  if (phase.kind === "running" && task?.pid && isLate({ group: promise.group, pid: task.pid }, task.ttl)) return { kind: "late", words: "heartbeat late" };
  if (phase.kind !== "waiting" || !task) return null;
  if (task.unclaimed) return { kind: "unclaimed", words: "claimed by nobody" };
  if (MISFIT.test(task.why)) return { kind: "misfit", words: "code does not fit" };
  return task.trouble ? { kind: "returned", words: "given back" } : null;
}
