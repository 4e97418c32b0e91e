// One chain as the server tells of it: promises, each with its phases. Nothing is derived here. Pure.

/** One promise. Of its phases, `to` is null for the one that lasts. */
const promiseOf = ({ created_at: createdAt, settled_at: settledAt, timeout_at: timeoutAt, ...same }) => ({
  ...same,
  createdAt,
  settledAt,
  timeoutAt,
  timer: same.role === "timer",
});

/** Whether workers run it: it has a task, and is no timer. */
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

  /** Whether `event` may have changed what the server tells of it: what happens to workers and to itself, too, does. */
  isTouchedBy(event) {
    if (event.kind.startsWith("worker.")) return event.kind !== "worker.heard";
    if (event.kind === "server.back") return true;
    return event.chain === this.id || this.promises.has(event.id);
  }
}
