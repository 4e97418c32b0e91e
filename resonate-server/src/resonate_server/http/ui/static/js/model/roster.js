// The groups and their workers, as the server last reported them. Pure.

/** How long a worker that is gone stays in the list, faded. */
export const GONE_SHOWN = 60_000;

/** Fraction of a lease after which its worker is late: workers send at least three heartbeats per lease. */
const PATIENCE = 0.5;

export class Roster {
  #groups = [];
  #at = 0;

  /** `at`: the time of the report. */
  heard(groups, at) {
    this.#groups = groups;
    this.#at = at;
  }

  /** Whether the worker that holds a lease of `ttl` was late with its heartbeat at the last report. */
  isLate(holder, ttl) {
    const worker = this.#find(holder);
    return worker?.state === "connected" && ttl > 0 && this.#at - worker.heard > ttl * PATIENCE;
  }

  /** Whether the worker is known but not connected. */
  isAway(worker) {
    return ![undefined, "connected"].includes(this.#find(worker)?.state);
  }

  isGone(worker) {
    return this.#find(worker)?.state === "gone";
  }

  #find({ group, pid }) {
    return this.#groups.find(({ name }) => name === group)?.workers.find((worker) => worker.pid === pid);
  }

  /** The groups by name, each with its workers by age, without those gone long ago. */
  shown(now) {
    return this.#groups.map(({ name, waiting, workers }) => ({
      name,
      waiting,
      workers: workers.filter((worker) => worker.state !== "gone" || now - worker.gone_at <= GONE_SHOWN),
    }));
  }
}
