// What is drawn in a promise's row: its phases, cut where the worker that ran it, or every worker of its group, was away.
// Pure. `presence` tells who was away when: `away(pid)` and `absent(group)` give lists of [from, to], `to` may be Infinity.

import { isCall, isStep } from "./chain.js";
import { phase } from "./phases.js";

/** The segments of one promise. `host`: segments of the call that a step runs in. */
export function segmentsOf(promise, presence, host) {
  if (promise.timer) return [whole("timer", promise)];
  if (isCall(promise)) return callSegments(promise, presence);
  return isStep(promise) && host ? stepSegments(promise, host) : [whole("waiting", promise, { reason: "outside" })];
}

function whole(kind, promise, more = {}) {
  return phase(kind, promise.createdAt, { to: promise.settledAt, ...more });
}

function callSegments(promise, presence) {
  const pieces = promise.phases.flatMap((one) => pierce(one, holesIn(one, promise, presence), promise));
  return joinGaps(markBreaks(pieces));
}

/** Running depends on one worker; anything else on there being one in the group. */
function holesIn(one, promise, presence) {
  if (one.kind === "running") return presence.away(one.pid);
  if (one.kind === "waiting" || one.kind === "suspended" || one.kind === "gap") return presence.absent(promise.group);
  return [];
}

/** `one` with gaps where `holes` are. */
function pierce(one, holes) {
  const end = one.to ?? Infinity;
  const pieces = [];
  let from = one.from;
  for (const [holeFrom, holeTo] of holes) {
    const start = Math.max(holeFrom, from);
    const stop = Math.min(holeTo, end);
    if (start >= stop) continue;
    if (start > from) pieces.push({ ...one, from, to: start, broken: false });
    pieces.push(gapIn(one, start, stop));
    from = stop;
  }
  if (from < end || pieces.length === 0) pieces.push({ ...one, from, to: one.to });
  return pieces;
}

const GAP_REASON = { running: "silent", suspended: "absent", waiting: "nobody" };

function gapIn(one, from, to) {
  const reason = one.kind === "gap" ? one.reason : GAP_REASON[one.kind];
  return phase("gap", from, { to: to === Infinity ? null : to, attempt: one.attempt, pid: one.pid, reason, on: one.on, known: one.known, absent: one.kind !== "running" });
}

/** What was under way when a gap begins ends in a torn edge. */
function markBreaks(pieces) {
  return pieces.map((one, index) => {
    const cutOff = pieces[index + 1]?.kind === "gap" && (one.kind === "running" || one.kind === "suspended");
    return cutOff && !one.broken ? { ...one, broken: true } : one;
  });
}

/** Gaps that follow one another are one: it is told by what was known last, and begins when it began. */
function joinGaps(pieces) {
  const joined = [];
  for (const one of pieces) {
    const previous = joined[joined.length - 1];
    if (one.kind === "gap" && previous?.kind === "gap") joined[joined.length - 1] = { ...one, from: previous.from, attempt: previous.attempt, pid: previous.pid ?? one.pid };
    else joined.push(one);
  }
  return joined;
}

/** A step has no task of its own: it runs while its host runs, and breaks with it. */
function stepSegments(promise, host) {
  const end = promise.settledAt ?? Infinity;
  const pieces = [];
  for (const one of host) {
    const from = Math.max(one.from, promise.createdAt);
    const to = Math.min(one.to ?? Infinity, end);
    if (from >= to) continue;
    const whole = to === (one.to ?? Infinity);
    pieces.push({ ...one, from, to: to === Infinity ? null : to, broken: one.broken && whole, step: true });
  }
  return pieces.length ? pieces : [whole("running", promise, { step: true })];
}
