// The bars in a row's track, as data: {key, from, to, attributes}, with `parts` of a text or an `icon`; a `mark` has a
// fixed width. Pure.

import { duration, fullTime } from "../text/durations.js";
import { brief } from "../text/payloads.js";
import { markOf, phaseParts, phaseText } from "../text/phases.js";
import { shortPid } from "../text/safe.js";
import { stateWord } from "../text/sentences.js";

/** A repeated attempt has another shade. This many distinguish neighbours, not all attempts from one another. */
const SHADES = 4;

/** Phases, torn edges, the remaining time of a timer, the end. `view`: {begin, end, now, nameOfId}. */
export function barsOf(row, view) {
  if (row.members) return [foldStripe(row)];
  const stripes = row.phases.map((phase) => phaseStripe(phase, row, view));
  for (const phase of row.phases) if (isBrokenOff(phase) && phase.to !== null) stripes.push(breakMark(phase, view));
  const promise = row.promise;
  if (promise.timer && promise.state === "pending") stripes.push(aheadStripe(promise, view));
  if (promise.settledAt !== null) stripes.push(endMark(promise, view));
  if (promise.state === "rejected") stripes.push(saidStripe(promise, view));
  return stripes;
}

function phaseStripe(phase, row, view) {
  const parts = phaseParts(phase, row, view.nameOfId, view.now());
  return {
    key: `${phase.kind}:${phase.from}`,
    from: phase.from,
    to: phase.to,
    parts,
    attributes: {
      "data-kind": phase.kind,
      "data-attempt": phase.attempt,
      "data-shade": phase.kind === "running" ? shade(phase) : null,
      "data-mark": markOf(phase),
      "data-step": phase.step,
      "data-broken": isBrokenOff(phase),
      "data-known": String(phase.known),
      "data-open": phase.to === null,
      "data-reason": phase.reason || null,
      title: title(phase, phaseText(phase, row, view.nameOfId), view),
    },
  };
}

export const shade = (phase) => ((phase?.retries ?? 0) % SHADES) + 1;

function title(phase, text, view) {
  const from = `${phase.known ? "" : "start unknown, at the latest"}${fullTime(phase.from)}`;
  const length = phase.to === null ? "" : `, ${duration(phase.to - phase.from)}`;
  const after = `+${duration(phase.from - view.begin)}`;
  return `${text}\n${after} (${from})${length}${phase.pid ? `\n${phase.kind === "waiting" ? "offered to " : ""}worker ${shortPid(phase.pid)}` : ""}`;
}

/** Only a running phase can break off: a suspended one holds nothing. */
const isBrokenOff = (phase) => phase.broken && phase.kind === "running";

function breakMark(phase, view) {
  const text = `attempt ${phase.attempt} broke off`;
  return {
    key: `broken:${phase.to}`,
    from: phase.to,
    to: phase.to,
    mark: true,
    icon: "broken",
    attributes: { "data-kind": "broken", "data-attempt": phase.attempt, title: `${text}\n+${duration(phase.to - view.begin)} (${fullTime(phase.to)})` },
  };
}

function aheadStripe(promise, view) {
  const end = Math.min(promise.timeoutAt, view.begin + 1e15);
  return { key: "ahead", from: promise.createdAt, to: end, attributes: { "data-kind": "ahead", title: `due +${duration(end - view.begin)} (${fullTime(end)})` } };
}

function endMark(promise, view) {
  const text = `${stateWord(promise.state)} +${duration(promise.settledAt - view.begin)} (${fullTime(promise.settledAt)})`;
  return { key: "settled", from: promise.settledAt, to: promise.settledAt, mark: true, attributes: { "data-kind": "settled", "data-state": promise.state, title: text } };
}

function foldStripe({ promise, members }) {
  const parts = [`${members.length} calls`, ...countsOf(members)];
  return { key: "fold", from: promise.createdAt, to: promise.settledAt, parts, attributes: { "data-kind": "fold", "data-open": promise.settledAt === null, title: parts.join("") } };
}

/** The number of `members` in each state, failures first: ", 90 resolved". */
function countsOf(members) {
  const counts = new Map();
  for (const { promise } of members) counts.set(promise.state, (counts.get(promise.state) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([state, count]) => `, ${count} ${stateWord(state)}`);
}

function saidStripe(promise, view) {
  return { key: "said", from: promise.settledAt, to: view.end, parts: [brief(promise.value, 80)], attributes: { "data-kind": "said", "data-state": promise.state } };
}
