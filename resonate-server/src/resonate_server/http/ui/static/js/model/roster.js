// Who is there, as the server told last: groups and their workers. Pure.

/** A worker that is gone fades for so long, then it leaves the list. */
export const GONE_SHOWN = 60_000;

/** Of its lease, after which a worker that holds it should have been heard of: workers send a heartbeat at least three times in one. */
const PATIENCE = 0.5;

export class Roster {
  #groups = [];
  #at = 0;

  /** `at`: when that was so. */
  heard(groups, at) {
    this.#groups = groups;
    this.#at = at;
  }

  /** Whether the worker that holds a lease of `ttl` was late with its heartbeat, when the server told last. */
  isLate(holder, ttl) {
    const worker = this.#find(holder);
    return worker?.state === "connected" && ttl > 0 && this.#at - worker.heard > ttl * PATIENCE;
  }

  /** Whether it is known, and not connected. */
  isAway(worker) {
    return ![undefined, "connected"].includes(this.#find(worker)?.state);
  }

  isGone(worker) {
    return this.#find(worker)?.state === "gone";
  }

  #find({ group, pid }) {
    return this.#groups.find(({ name }) => name === group)?.workers.find((worker) => worker.pid === pid);
  }

  /** Groups by name, each with its workers by age; without those gone long ago. */
  shown(now) {
    return this.#groups.map(({ name, waiting, workers }) => ({
      name,
      waiting,
      workers: workers.filter((worker) => worker.state !== "gone" || now - worker.gone_at <= GONE_SHOWN),
    }));
  }
}
