// Who is there: groups, their workers, and when each was connected. Pure; fed by the stream's hello and its events.

/** A worker that is gone fades for so long, then it leaves the list (its absence stays known). */
export const GONE_SHOWN = 60_000;

/** What is kept at most: spells of one worker's connection, workers, tasks whose holder is known. */
const MOST_SPANS = 50;
const MOST_WORKERS = 2000;
const MOST_TASKS = 20_000;

const seat = (group, pid) => `${group}\u0000${pid}`;

export class Roster {
  constructor() {
    this.groups = new Map();
    this.workers = new Map();
    this.holders = new Map();
    this.queued = new Map();
    this.born = new Map();
    this.helloAt = 0;
  }

  /** Begin anew with what the server knows, unless it says that nothing was missed. */
  hello(message) {
    if (!message.resumed) {
      this.workers.clear();
      this.holders.clear();
      this.queued.clear();
      this.born.clear();
    }
    this.helloAt = message.at;
    this.groups = new Map(message.groups.map(({ name, waiting }) => [name, { name, waiting: waiting ?? null }]));
    for (const group of message.groups) for (const worker of group.workers) this.#meet(worker);
  }

  #meet(worker) {
    const key = seat(worker.group, worker.pid);
    const left = worker.state === "gone" ? (worker.gone_at ?? worker.heard) : null;
    const spans = this.workers.get(key)?.spans ?? [{ from: worker.since, to: left }];
    const { pid, group, since, heard, state, held } = worker;
    this.workers.set(key, { pid, group, since, heard, state, goneAt: left, held: held ?? null, spans });
  }

  /** Take in an event; true if it changed what is shown. */
  apply(event) {
    const step = STEPS[event.kind];
    step?.(this, event);
    return step !== undefined;
  }

  /** The worker of `event`, who is met now if nobody knew of it. */
  worker({ group = "", pid, at }) {
    const known = this.workers.get(seat(group, pid));
    if (known) return known;
    if (this.workers.size >= MOST_WORKERS) this.workers.delete(this.workers.keys().next().value);
    const worker = { pid, group, since: at, heard: at, state: "connected", goneAt: null, held: 0, spans: [] };
    this.workers.set(seat(group, pid), worker);
    this.group(group);
    return worker;
  }

  group(name) {
    if (!this.groups.has(name) && this.groups.size < MOST_WORKERS) this.groups.set(name, { name, waiting: 0 });
    return this.groups.get(name) ?? null;
  }

  isGone({ group, pid }) {
    return this.workers.get(seat(group, pid))?.state === "gone";
  }

  /** Groups by name, each with its workers by age; without those gone long ago. */
  shown(now) {
    const groups = new Map([...this.groups.values()].map((group) => [group.name, { ...group, workers: [] }]));
    for (const worker of this.workers.values()) {
      if (worker.state === "gone" && now - worker.goneAt > GONE_SHOWN) continue;
      groups.get(worker.group)?.workers.push(worker);
    }
    for (const group of groups.values()) group.workers.sort((a, b) => a.since - b.since || (a.pid < b.pid ? -1 : 1));
    return [...groups.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** When the streams of `pid` were down, after they were up once: a list of [from, to]. */
  away(pid) {
    return between(this.#spans((worker) => worker.pid === pid));
  }

  /** When nobody of `group` was connected, as far back as anything is known. */
  absent(group) {
    const spans = this.#spans((worker) => worker.group === group);
    return spans.length ? between(spans) : [[this.helloAt, Infinity]];
  }

  #spans(counts) {
    return [...this.workers.values()].filter(counts).flatMap((worker) => worker.spans);
  }
}

/** The times that no span covers, after the first one began. */
function between(spans) {
  const holes = [];
  let until = null;
  for (const span of [...spans].sort((a, b) => a.from - b.from)) {
    if (until !== null && span.from > until) holes.push([until, span.from]);
    until = Math.max(until ?? -Infinity, span.to ?? Infinity);
  }
  if (until !== null && until !== Infinity) holes.push([until, Infinity]);
  return holes;
}

const STEPS = {
  "worker.connected": connected,
  "worker.left": left,
  "worker.silent": silent,
  "worker.gone": gone,
  "worker.heard": heard,
  "promise.created": born,
  "task.queued": queued,
  "task.claimed": claimed,
  "task.suspended": letGo,
  "task.released": letGo,
  "task.lost": letGo,
  "task.halted": ended,
  "promise.settled": ended,
};

function connected(roster, event) {
  const worker = roster.worker(event);
  if (!worker.spans.some((span) => span.to === null)) worker.spans.push({ from: event.at, to: null });
  if (worker.spans.length > MOST_SPANS) worker.spans.shift();
  const since = worker.state === "connected" ? worker.since : event.at;
  Object.assign(worker, { since, heard: event.at, state: "connected", goneAt: null });
}

/** A stream that the server itself ended as planned says nothing about the worker. */
function left(roster, event) {
  const worker = roster.worker(event);
  if (event.planned) return;
  for (const span of worker.spans) span.to ??= event.at;
  Object.assign(worker, { state: "silent", goneAt: event.at });
}

/** It let a lease lapse. One that is gone is worse than silent. */
function silent(roster, event) {
  const worker = roster.worker(event);
  if (worker.state !== "gone") worker.state = "silent";
}

function gone(roster, event) {
  const worker = roster.worker(event);
  for (const span of worker.spans) span.to ??= event.at;
  Object.assign(worker, { state: "gone", goneAt: worker.goneAt ?? event.at, held: 0 });
}

function heard(roster, event) {
  const worker = roster.worker(event);
  worker.heard = event.at;
  if (worker.state === "silent" && worker.goneAt === null) worker.state = "connected";
}

function born(roster, event) {
  bounded(roster.born).set(event.id, event.at);
}

function queued(roster, event) {
  if (!event.group || roster.queued.has(event.id)) return;
  bounded(roster.queued).set(event.id, event.group);
  if (event.reason !== "retry") wait(roster, event.group, 1); // what is offered again was counted by the server
}

/** It waits no longer. One that waited before the hello was counted by the server. */
function taken(roster, event) {
  const group = roster.queued.get(event.id) ?? event.group;
  roster.queued.delete(event.id);
  if (group) wait(roster, group, -1);
}

function wait(roster, name, change) {
  const group = roster.group(name);
  if (group && group.waiting !== null) group.waiting = Math.max(0, group.waiting + change);
}

function claimed(roster, event) {
  letGo(roster, event);
  const neverWaited = roster.born.has(event.id) && !roster.queued.has(event.id);
  if (!neverWaited) taken(roster, event);
  bounded(roster.holders).set(event.id, event.pid);
  count(roster, event.pid, 1);
}

function ended(roster, event) {
  if (roster.queued.has(event.id)) taken(roster, event);
  letGo(roster, event);
}

function bounded(tasks) {
  if (tasks.size >= MOST_TASKS) tasks.delete(tasks.keys().next().value);
  return tasks;
}

/** The holder is who was seen to claim it; for what was claimed before, the event has to say it. */
function letGo(roster, event) {
  const pid = roster.holders.get(event.id) ?? (event.kind === "task.halted" ? null : event.pid);
  if (event.kind === "task.claimed" && !roster.holders.has(event.id)) return;
  roster.holders.delete(event.id);
  if (pid) count(roster, pid, -1);
}

function count(roster, pid, change) {
  for (const worker of roster.workers.values()) {
    if (worker.pid === pid && worker.held !== null) worker.held = Math.max(0, worker.held + change);
  }
}
