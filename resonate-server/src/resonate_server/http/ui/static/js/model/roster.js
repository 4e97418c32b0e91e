// Who is there, as the server told last: groups and their workers. Pure.

/** A worker that is gone fades for so long, then it leaves the list. */
export const GONE_SHOWN = 60_000;

export class Roster {
  #groups = [];

  heard(groups) {
    this.#groups = groups;
  }

  isGone({ group, pid }) {
    const workers = this.#groups.find(({ name }) => name === group)?.workers ?? [];
    return workers.some((worker) => worker.pid === pid && worker.state === "gone");
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
