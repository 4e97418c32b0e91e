// What happens to one task, as phases: waiting for a worker, running, suspended. Pure; fed by the events of one promise.
//
// Phase: {kind, from, to, attempt, pid, reason, trouble, on, broken, known}. `to` is null while it lasts. `trouble`: what
// is wrong, in words. `broken`: the attempt was cut off. `known` false: told by the database alone, so nobody knows when it
// began.

export function phase(kind, from, more = {}) {
  return { kind, from, to: null, attempt: null, pid: null, reason: null, trouble: "", on: [], broken: false, known: true, ...more };
}

const last = (phases) => phases[phases.length - 1];
const isOpen = (phases) => phases.length > 0 && last(phases).to === null;

function close(phases, at) {
  if (isOpen(phases)) last(phases).to = Math.max(at, last(phases).from);
}

function open(phases, kind, at, more) {
  close(phases, at);
  phases.push(phase(kind, at, more));
}

const attemptOf = (phases) => (phases.length ? last(phases).attempt : null);

const STEPS = {
  "task.queued": queued,
  "task.sent": sent,
  "task.claimed": claimed,
  "task.suspended": suspended,
  "task.lost": lost,
  "task.released": released,
  "task.unclaimed": unclaimed,
  "task.halted": halted,
  "promise.settled": settled,
};

/** Carry `phases` on by one event. */
export function follow(phases, event) {
  STEPS[event.kind]?.(phases, event);
}

function queued(phases, event) {
  const waits = isOpen(phases) && (last(phases).kind === "waiting" || last(phases).kind === "gap");
  if (waits) {
    if (event.reason === "retry") last(phases).reason = "retry";
    return;
  }
  if (event.reason === "lease" || event.reason === "gone") lost(phases, event);
  else open(phases, "waiting", event.at, { reason: event.reason, attempt: event.version });
}

function sent(phases, event) {
  if (isOpen(phases) && last(phases).kind !== "running") last(phases).sentTo = event.pid;
}

function claimed(phases, event) {
  open(phases, "running", event.at, { attempt: event.version, pid: event.pid });
}

function suspended(phases, event) {
  open(phases, "suspended", event.at, { attempt: event.version, pid: event.pid, on: event.on ?? [] });
}

/** The attempt ends in a break, and what follows is a gap until somebody claims the task. */
function lost(phases, event) {
  if (isOpen(phases) && last(phases).kind === "running") last(phases).broken = true;
  const attempt = event.version ?? attemptOf(phases);
  open(phases, "gap", event.at, { reason: event.reason, attempt, pid: event.pid ?? pidOf(phases) });
}

const pidOf = (phases) => (phases.length ? last(phases).pid : null);

/** Handed back by a worker that ends in order: no break. */
function released(phases, event) {
  open(phases, "waiting", event.at, { reason: "released", attempt: event.version, trouble: event.trouble });
}

/** Still waiting: a worker was told of it, and did not claim it. */
function unclaimed(phases, event) {
  if (isOpen(phases) && last(phases).kind !== "running") last(phases).trouble = event.trouble;
}

function halted(phases, event) {
  open(phases, "halted", event.at, { attempt: attemptOf(phases) });
}

function settled(phases, event) {
  close(phases, event.settled_at ?? event.at);
}
