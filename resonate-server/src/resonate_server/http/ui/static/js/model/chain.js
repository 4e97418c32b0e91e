// A chain as the server describes it: promises, each with its phases and its depth in the call tree; its rows,
// folded or not; and the names of promises. Pure.

/** A promise. `to` is null in its current phase. */
const promiseOf = ({ created_at: createdAt, settled_at: settledAt, timeout_at: timeoutAt, ...same }) => ({
  ...same,
  createdAt,
  settledAt,
  timeoutAt,
  timer: same.role === "timer",
});

/** Whether workers run it: it has a task and is not a timer. */
export const isCall = (promise) => promise.role === "call";

export class Chain {
  constructor({ id, promises, cut, outages, story }) {
    Object.assign(this, { id, cut, outages, story });
    this.promises = new Map(promises.map((record) => [record.id, promiseOf(record)]));
  }

  get root() {
    return this.promises.get(this.id) ?? this.promises.values().next().value;
  }

  get isPending() {
    for (const promise of this.promises.values()) if (promise.state === "pending") return true;
    return false;
  }

  /** Whether `event` may change the server's description of the chain. Events of workers and of the server may, too. */
  isTouchedBy(event) {
    if (event.kind.startsWith("worker.")) return event.kind !== "worker.heard";
    if (event.kind.startsWith("server.")) return true;
    return event.chain === this.id || this.promises.has(event.id);
  }
}

/** Rows of `chain`, in the order of the call tree. `group`: the group that runs it; for a step, its caller's. */
export function rowsOf(chain) {
  const above = [];
  return Array.from(chain.promises.values(), (promise) => {
    above.length = promise.depth;
    const parent = above.at(-1);
    const group = isCall(promise) ? promise.group : (parent?.group ?? null);
    const row = { promise, phases: promise.phases, depth: promise.depth, group, more: parent ? [...parent.more.slice(-7), promise.follows] : [] };
    above.push(row);
    return row;
  });
}

/** The origin of the failure of `row`: the first row below it that failed with the same value. */
export function originOf(row, rows) {
  const begin = rows.indexOf(row);
  const next = rows.findIndex((other, index) => index > begin && other.depth <= row.depth);
  const below = rows.slice(begin, next < 0 ? rows.length : next);
  const text = row.promise.value?.text;
  const same = below.filter(({ promise }) => promise.state === "rejected" && promise.value?.text === text);
  return same.reduce((first, other) => (other.promise.settledAt < first.promise.settledAt || other.depth > first.depth ? other : first), row);
}

const MOST_NAMES = 20_000;

/** Only the creation event has the names of promises, later events have only the id. */
export class Names {
  #known = new Map();

  /** Remember what a record or an event says about a promise. */
  learn({ id, func = null, timer = false, created_at: createdAt, timeout_at: timeoutAt, group = null, parent = null }) {
    if (this.#known.size >= MOST_NAMES) this.#known.delete(this.#known.keys().next().value);
    this.#known.set(id, { func, timer, span: timeoutAt - createdAt, group, parent });
  }

  get(id) {
    return this.#known.get(id) ?? null;
  }
}

// ── many calls of one function by one caller, folded into one row ──

/** Fewer calls are not folded. */
const MANY = 4;

/**
 * Fold siblings in `rows` that have the same group and `name(promise)` into one row: {members, promise, …}. If its key is
 * in `open`, its members follow. Rows below a folded row are folded with it.
 */
export function fold(rows, open, name) {
  const keys = keysOf(rows, name);
  const members = new Map();
  for (const row of rows) members.get(keys.get(row))?.push(row) ?? members.set(keys.get(row), [row]);
  const told = new Set();
  const shown = [];
  let hiddenBelow = Infinity;
  for (const row of rows) {
    if (row.depth > hiddenBelow) continue;
    hiddenBelow = Infinity;
    const key = keys.get(row);
    const alike = members.get(key);
    if (alike.length < MANY || row.depth === 0) {
      shown.push(row);
      continue;
    }
    if (!told.has(key)) shown.push(summary(key, alike, name, open.has(key)));
    told.add(key);
    if (open.has(key)) shown.push(row);
    else hiddenBelow = row.depth;
  }
  return shown;
}

/** The key of each row: its parent, its group and its name. */
function keysOf(rows, name) {
  return new Map(rows.map((row) => [row, [row.promise.parent, row.group, name(row.promise)].join("\u0000")]));
}

function summary(key, members, name, isOpen) {
  const promises = members.map((row) => row.promise);
  const settled = promises.every((promise) => promise.settledAt !== null);
  const promise = {
    ...promises[0],
    id: `fold\u0000${key}`,
    role: "fold",
    func: name(promises[0]),
    timer: false,
    state: worst(promises),
    createdAt: Math.min(...promises.map((each) => each.createdAt)),
    settledAt: settled ? Math.max(...promises.map((each) => each.settledAt)) : null,
    task: null,
    awaits: [],
    value: null,
  };
  return { ...members[0], promise, members, isOpen, key, phases: [] };
}

const FROM_BAD = ["rejected", "rejected_timedout", "rejected_canceled", "pending", "resolved"];

const worst = (promises) => FROM_BAD.find((state) => promises.some((promise) => promise.state === state));
