// One chain: its promises as the database has them, carried on by events. Pure; no clock, no document.

import { follow, phase } from "./phases.js";

/** Promises that are kept of one chain; the server sends no more than that, either. */
export const MOST_PROMISES = 2000;

/** A first phase that begins within so many milliseconds of the promise leaves nothing unknown before it. */
const BIRTH = 5;

/** One promise and what happened to its task. */
function promiseOf(record) {
  return {
    id: record.id,
    parent: record.parent ?? null,
    func: record.func ?? null,
    group: record.group ?? null,
    timer: record.timer === true,
    state: record.state ?? "pending",
    createdAt: record.created_at,
    settledAt: record.settled_at ?? null,
    timeoutAt: record.timeout_at ?? null,
    param: record.param ?? null,
    value: record.value ?? null,
    tags: record.tags ?? null,
    task: record.task ?? null,
    awaits: record.awaits ?? [],
    phases: [],
    revision: 0,
  };
}

/** Whether workers run it: it has a task, and is no timer. */
export const isCall = (promise) => promise.group !== null && !promise.timer;

/** Whether it runs inside its parent: a step of `ctx.run`. */
export const isStep = (promise) =>
  promise.parent !== null && promise.group === null && !promise.timer && promise.tags?.["resonate:scope"] !== "global";

export class Chain {
  constructor(detail) {
    this.id = detail.id;
    this.epoch = detail.epoch;
    this.seq = detail.seq ?? 0;
    this.knownFrom = detail.known_from ?? 0;
    this.cut = detail.cut === true;
    this.promises = new Map(detail.promises.map((record) => [record.id, promiseOf(record)]));
    for (const event of detail.events ?? []) this.#promiseFor(event, (promise) => follow(promise.phases, event));
    for (const promise of this.promises.values()) complete(promise);
  }

  get root() {
    return this.promises.get(this.id) ?? this.promises.values().next().value;
  }

  get isPending() {
    for (const promise of this.promises.values()) if (promise.state === "pending") return true;
    return false;
  }

  /** What `older`, an earlier picture of this chain, knows of times that the server remembers no longer. */
  graft(older) {
    for (const promise of this.promises.values()) {
      const known = older.promises.get(promise.id);
      if (known) promise.phases = grafted(promise, known.phases);
    }
  }

  /** Take in an event that came after the detail; false if it says nothing new of this chain. */
  apply(event) {
    if (event.chain !== this.id || event.seq <= this.seq) return false;
    this.seq = event.seq;
    if (event.kind === "promise.created") this.#add(event);
    this.#promiseFor(event, (promise) => carryOn(promise, event));
    return true;
  }

  #add(event) {
    if (this.promises.has(event.id)) return;
    if (this.promises.size < MOST_PROMISES) this.promises.set(event.id, promiseOf(event));
    else this.cut = true;
  }

  #promiseFor(event, then) {
    const promise = this.promises.get(event.id);
    if (promise) then(promise);
  }
}

function carryOn(promise, event) {
  promise.revision += 1;
  follow(promise.phases, event);
  keepTask(promise, event);
  if (event.kind !== "promise.settled") return;
  promise.state = event.state;
  promise.settledAt = event.settled_at ?? event.at;
  promise.value = event.value ?? null;
  promise.awaits = [];
}

const TASK_STATES = {
  "task.queued": "pending",
  "task.claimed": "acquired",
  "task.suspended": "suspended",
  "task.lost": "pending",
  "task.released": "pending",
  "task.unclaimed": "pending",
  "task.halted": "halted",
  "promise.settled": "fulfilled",
};

/** The task's record as far as events tell it; the rest (lease, retry) is only in the detail, and old by now. */
function keepTask(promise, event) {
  const state = TASK_STATES[event.kind];
  if (!state || !isCall(promise)) return;
  const version = event.version ?? promise.task?.version ?? 0;
  const pid = state === "acquired" ? event.pid : null;
  const trouble = event.trouble ?? (state === "pending" ? (promise.task?.trouble ?? "") : "");
  promise.task = { state, version, pid, ttl: null, resumes: null, lease_ends: null, retry_at: null, trouble };
  promise.awaits = state === "suspended" ? (event.on ?? []) : [];
}

/** Fill in, from the database, what happened before the server's memory of events begins. */
function complete(promise) {
  if (!isCall(promise)) return;
  const first = promise.phases[0];
  if (!first) promise.phases.push(remembered(promise));
  else if (first.from > promise.createdAt + BIRTH) promise.phases.unshift(before(promise, first));
}

function before(promise, first) {
  const attempts = first.kind === "running" ? first.attempt - 1 : (first.attempt ?? 0);
  return phase("unknown", promise.createdAt, { to: first.from, attempt: Math.max(0, attempts), known: false });
}

/** The phases of `promise`, with what `older` ones tell instead of what is told by the database alone. */
function grafted(promise, older) {
  const [first, ...rest] = promise.phases;
  if (!first || first.known || !older[0]?.known) return promise.phases;
  const open = older[older.length - 1];
  const goesOn = rest.length === 0 && open.to === null && open.kind === first.kind && open.attempt === first.attempt;
  if (goesOn) return older;
  const until = rest.length ? first.to : promise.settledAt;
  if (until === null) return promise.phases;
  const kept = older.filter((one) => one.from < until).map((one) => ({ ...one, to: Math.min(one.to ?? until, until) }));
  return [...kept, ...rest];
}

const PHASE_OF_TASK = { pending: "waiting", acquired: "running", suspended: "suspended", halted: "halted" };

function remembered(promise) {
  const task = promise.task;
  const kind = promise.state === "pending" ? (PHASE_OF_TASK[task?.state] ?? "unknown") : "unknown";
  return phase(kind, promise.createdAt, {
    to: promise.settledAt,
    attempt: task?.version ?? 0,
    pid: task?.pid ?? null,
    trouble: task?.trouble ?? "",
    on: promise.awaits,
    known: false,
  });
}
