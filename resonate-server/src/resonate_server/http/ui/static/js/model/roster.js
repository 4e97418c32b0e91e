// Who is there: groups, their workers, and when each was connected. Pure; fed by the stream's hello and its events.

/** A worker that is gone fades for so long, then it is forgotten by the list (its absence stays known). */
export const GONE_SHOWN = 60_000;

/** Times of presence that are kept of one worker, and workers that are kept at all. */
const MOST_SPANS = 50;
const MOST_WORKERS = 2000;

export class Roster {
  constructor() {
    this.groups = new Map();
    this.workers = new Map();
    this.helloAt = 0;
  }

  /** Begin anew with what the server knows, unless it says that nothing was missed. */
  hello(message) {
    if (!message.resumed) this.workers.clear();
    this.helloAt = message.at;
    this.groups = new Map(message.groups.map((group) => [group.name, { name: group.name, waiting: group.waiting ?? 0 }]));
    for (const group of message.groups) for (const worker of group.workers) this.#meet(worker);
  }

  #meet(worker) {
    const left = worker.state === "connected" ? null : (worker.left_at ?? worker.gone_at ?? worker.heard);
    const known = this.workers.get(worker.pid);
    const spans = known?.spans ?? [{ from: worker.since, to: left }];
    this.workers.set(worker.pid, {
      pid: worker.pid,
      group: worker.group,
      since: worker.since,
      heard: worker.heard,
      state: worker.state,
      goneAt: left,
      held: worker.held ?? 0,
      spans,
    });
  }

  /** Take in an event; true if it changed what is shown. */
  apply(event) {
    const step = STEPS[event.kind];
    if (!step) return false;
    step(this, event);
    return true;
  }

  worker(event) {
    const known = this.workers.get(event.pid);
    if (known) return known;
    if (this.workers.size >= MOST_WORKERS) this.workers.delete(this.workers.keys().next().value);
    const group = event.group ?? "";
    const worker = { pid: event.pid, group, since: event.at, heard: event.at, state: "connected", goneAt: null, held: 0, spans: [] };
    this.workers.set(event.pid, worker);
    this.#group(group);
    return worker;
  }

  #group(name) {
    if (!this.groups.has(name)) this.groups.set(name, { name, waiting: 0 });
  }

  /** Groups by name, each with its workers, the longest connected first; without those gone long ago. */
  shown(now) {
    const groups = new Map([...this.groups.values()].map((group) => [group.name, { ...group, workers: [] }]));
    for (const worker of this.workers.values()) {
      if (worker.state !== "connected" && now - worker.goneAt > GONE_SHOWN) continue;
      groups.get(worker.group)?.workers.push(worker);
    }
    for (const group of groups.values()) group.workers.sort((a, b) => a.since - b.since || (a.pid < b.pid ? -1 : 1));
    return [...groups.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** When the stream of `pid` was down, after it was up once. */
  away(pid) {
    const spans = this.workers.get(pid)?.spans ?? [];
    return between(spans, false);
  }

  /** When nobody of `group` was connected, as far back as anything is known. */
  absent(group) {
    const spans = [];
    for (const worker of this.workers.values()) if (worker.group === group) spans.push(...worker.spans);
    if (spans.length === 0) return [[this.helloAt, Infinity]];
    return between(spans);
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
  "worker.gone": gone,
  "worker.heard": heard,
  "task.claimed": claimed,
  "task.suspended": letGo,
  "task.released": letGo,
  "task.lost": letGo,
  "promise.settled": null,
};

function connected(roster, event) {
  const worker = roster.worker(event);
  const open = worker.spans.some((span) => span.to === null);
  if (!open) worker.spans.push({ from: event.at, to: null });
  if (worker.spans.length > MOST_SPANS) worker.spans.shift();
  Object.assign(worker, { since: event.at, heard: event.at, state: "connected", goneAt: null });
}

function left(roster, event) {
  const worker = roster.worker(event);
  for (const span of worker.spans) span.to ??= event.at;
  Object.assign(worker, { state: "silent", goneAt: event.at });
}

function gone(roster, event) {
  const worker = roster.worker(event);
  for (const span of worker.spans) span.to ??= event.at;
  Object.assign(worker, { state: "gone", goneAt: worker.goneAt ?? event.at, held: 0 });
}

function heard(roster, event) {
  roster.worker(event).heard = event.at;
}

function claimed(roster, event) {
  const worker = roster.workers.get(event.pid);
  if (worker) Object.assign(worker, { heard: event.at, held: worker.held + 1 });
}

function letGo(roster, event) {
  const worker = roster.workers.get(event.pid);
  if (worker) worker.held = Math.max(0, worker.held - 1);
}
