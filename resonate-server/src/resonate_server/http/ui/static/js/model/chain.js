// A chain as the server describes it: promises, each with its phases. Nothing is derived here. Pure.

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
    if (event.kind === "server.back") return true;
    return event.chain === this.id || this.promises.has(event.id);
  }
}
