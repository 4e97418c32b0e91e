// What happened, in plain sentences, for the log, the headline and screen readers. Pure.

import { isCall } from "../model/chain.js";
import { asked, coarse, duration } from "./durations.js";
import { brief } from "./payloads.js";
import { causeText, phaseText, waitsFor } from "./phases.js";
import { cut, shortGroup, shortPid, shorten } from "./safe.js";

export const STATE_WORDS = {
  pending: "pending",
  resolved: "resolved",
  rejected: "rejected",
  rejected_canceled: "cancelled",
  rejected_timedout: "timed out",
};

export const stateWord = (state) => STATE_WORDS[state] ?? cut(state, 20);

/** The display name of a promise: its function, "sleep 10 s", "step", "promise", or its id. */
export function nameOf(promise) {
  if (promise.timer) return `sleep ${asked(promise.timeoutAt - promise.createdAt)}`;
  if (promise.func) return cut(promise.func, 40);
  return isCall(promise) ? shorten(promise.id, 24) : promise.role;
}

/** The same for a promise of which only the id and perhaps the name are known. */
function called(names, id) {
  const known = names.get(id);
  if (known?.func) return cut(known.func, 40);
  if (known?.timer) return `sleep ${asked(known.span)}`;
  if (known?.parent && known.group === null) return `a step of ${cut(names.get(known.parent)?.func ?? shorten(known.parent, 20), 40)}`;
  return shorten(id, 28);
}

const workerOf = ({ group, pid }) => `${cut(shortGroup(group), 24) || "a worker"} (worker ${shortPid(pid)})`;
const onWorker = (pid) => (pid ? ` on ${shortPid(pid)}` : "");

const LOST = { lease: "its lease ended", gone: "its worker is gone" };

const QUEUED = {
  resumed: (name) => `${name} can continue`,
  continued: (name) => `${name} may continue`,
};

/** The sentence for `event`, or null if another event covers it. */
export function sentence(event, names) {
  return SENTENCES[event.kind]?.(event, called(names, event.id ?? ""), names) ?? null;
}

const SENTENCES = {
  "promise.created": created,
  "promise.settled": (event, name, names) => `${name} ${settled(event, names.get(event.id))}`,
  "task.queued": (event, name) => QUEUED[event.reason]?.(name),
  "task.sent": (event, name) => `execute ${shorten(event.id, 28)} → ${cut(shortGroup(event.group), 24) || name} ${shortPid(event.pid)}, attempt ${event.version + 1}`,
  "task.claimed": (event, name) => `${name} runs${onWorker(event.pid)}, attempt ${event.version}`,
  "task.suspended": (event, name, names) => `${name} suspended${waitsFor(event.on, (id) => called(names, id), ": waits for ")}`,
  "task.lost": (event, name) => `${name}, attempt ${event.version}${onWorker(event.pid)}, broke off: ${LOST[event.reason] ?? "it was taken back"}`,
  "task.released": (event, name) => `${name} handed back${event.pid ? ` by ${shortPid(event.pid)}` : ""}${event.trouble ? `: ${event.trouble}` : ""}`,
  "task.unclaimed": (event, name) => `${name}: ${event.trouble}`,
  "task.halted": (_event, name) => `${name} halted by an operator`,
  "task.refused": (event, name) => `${name}: a late write of attempt ${event.version} was refused`,
  "server.back": (event) => `the server is back after ${duration(event.at - event.since)}`,
  "worker.connected": (event) => `${workerOf(event)} connected${event.planned ? " again" : ""}`,
  "worker.left": (event) => (event.planned ? `${workerOf(event)}: stream ended by the server` : `${workerOf(event)} gone: connection closed`),
  "worker.silent": (event) => `${workerOf(event)} silent: one of its leases expired`,
  "worker.gone": (event) => `${workerOf(event)} stayed away: its tasks were taken back`,
};

function created(event, name, names) {
  if (event.id === event.chain) return `${name} called: ${shorten(event.id, 28)}`;
  const caller = event.parent ? called(names, event.parent) : "somebody";
  if (event.timer) return `${caller} sleeps ${asked(event.timeout_at - event.created_at)}`;
  if (event.group !== null) return `${caller} calls ${name}`;
  return `${caller} begins ${event.func ? `its step ${name}` : "a step"}`;
}

function settled(event, known) {
  const took = duration(event.settled_at - event.created_at);
  if (event.state === "resolved") return known?.timer ? "is over" : `resolved: ${brief(event.value, 40)} after ${took}`;
  if (event.state === "rejected") return `rejected: ${brief(event.value, 60)} after ${took}`;
  return `${stateWord(event.state)} after ${took}`;
}

/** A row as one sentence, for screen readers. */
export function rowSentence(row, now, nameOfId) {
  const promise = row.promise;
  const name = nameOf(promise);
  if (promise.state !== "pending") return `${name} ${settledWords(promise)}`;
  const phase = row.phases[row.phases.length - 1];
  if (!phase) return `${name}, pending`;
  const lasting = `for ${duration((phase.to ?? now) - phase.from)}`;
  if (phase.kind === "running") {
    const attempt = phase.step ? "" : `, attempt ${phase.attempt}${causeText(phase)}`;
    return `${name}${attempt}, running ${lasting}${phase.pid ? ` on worker ${shortPid(phase.pid)}` : ""}`;
  }
  if (phase.kind === "timer") return `${name}, ${coarse(promise.timeoutAt - now)} to go`;
  return `${name}, ${phaseText(phase, row, nameOfId, now)}, ${lasting}`;
}

function settledWords(promise) {
  const took = duration(promise.settledAt - promise.createdAt);
  if (promise.timer && promise.state === "resolved") return "is over";
  const value = promise.state === "resolved" || promise.state === "rejected" ? `: ${brief(promise.value, 80)}` : "";
  return `${stateWord(promise.state)}${value}, after ${took}`;
}

/** The state of the chain: {tone, text}. Tones: good, bad, gap, busy, calm. `isAway(worker)`: whether it is not connected, as in the workers panel. */
export function headline(rows, now, nameOfId, isAway) {
  const root = rows[0].promise;
  if (root.state === "resolved") return { tone: "good", text: `Resolved: ${brief(root.value, 60)} after ${duration(root.settledAt - root.createdAt)}` };
  if (root.state !== "pending") return { tone: "bad", text: capital(settledWords(root)) };
  const active = rows.filter((row) => row.promise.state === "pending" && row.phases.length);
  const ending = (kind) => active.findLast((row) => row.phases[row.phases.length - 1].kind === kind);
  const gap = active.findLast((row) => isGap(row) && isCall(row.promise)) ?? ending("gap");
  if (gap) return { tone: "gap", text: gapHeadline(gap) };
  const stuck = active.findLast((row) => row.phases.at(-1).trouble || row.phases.at(-1).kind === "halted");
  if (stuck) return { tone: "gap", text: standing(stuck, now, nameOfId) };
  const running = ending("running");
  if (running && isAway({ group: running.group, pid: running.phases.at(-1).pid })) return { tone: "gap", text: lostAtWork(running) };
  if (running) return { tone: "busy", text: runningHeadline(running) };
  const timer = ending("timer");
  if (timer) return { tone: "calm", text: sleepHeadline(timer, rows, now) };
  const waiting = ending("waiting");
  if (waiting) return { tone: "calm", text: standing(waiting, now, nameOfId) };
  const other = active[active.length - 1];
  return { tone: "calm", text: other ? `${capital(nameOf(other.promise))} is ${phaseText(other.phases.at(-1), other, nameOfId)}` : "Pending" };
}

const standing = (row, now, nameOfId) => `${capital(nameOf(row.promise))}: ${phaseText(row.phases.at(-1), row, nameOfId, now)}`;

const isGap = (row) => row.phases[row.phases.length - 1].kind === "gap";

function gapHeadline(row) {
  const phase = row.phases[row.phases.length - 1];
  const who = cut(shortGroup(row.group ?? ""), 24);
  if (phase.reason === "absent") return `No ${who} is connected. It was suspended, so nothing is lost`;
  if (phase.reason === "nobody") return `No worker of ${row.group} is connected. ${capital(nameOf(row.promise))} waits for one`;
  if (phase.reason === "silent") return lostAtWork(row);
  if (phase.reason === "lease") return `${capital(who)} hangs, and has lost its lease. Its work waits for a worker of ${row.group}`;
  return `${capital(who)} is gone. Its work waits for a worker of ${row.group}`;
}

const lostAtWork = (row) => `${capital(cut(shortGroup(row.group ?? ""), 24))} is gone in the middle of its work`;

function runningHeadline(row) {
  const phase = row.phases[row.phases.length - 1];
  const name = row.promise.func || !phase.step ? nameOf(row.promise) : "";
  const step = phase.step ? `a step of ${cut(shortGroup(row.group ?? ""), 24)}` : "";
  const who = capital([name, step].filter(Boolean).join(", ")) + (name && step ? "," : "");
  return `${who} runs${phase.pid ? ` on worker ${shortPid(phase.pid)}` : ""}, attempt ${phase.attempt}${phase.step ? "" : causeText(phase)}`;
}

function sleepHeadline(row, rows, now) {
  const parent = rows.find((other) => other.promise.id === row.promise.parent);
  const who = parent ? capital(nameOf(parent.promise)) : "It";
  return `${who} sleeps, ${coarse(row.promise.timeoutAt - now + 999)} to go, and holds no worker`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
