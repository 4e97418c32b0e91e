// The chains in the list: pages from the server, kept up to date by events. Pure.

/** Maximum number of chains kept as new ones arrive; above it, the list restarts with its first page. */
export const MANY = 5000;

export class ChainList {
  constructor() {
    this.filter = { state: "", text: "" };
    this.early = null;
    this.clear();
  }

  clear() {
    this.items = [];
    this.byId = new Map();
    this.next = null;
    this.loaded = false;
    /** Whether chains may have begun or stopped to fit the filter. */
    this.isOutdated = false;
  }

  /** Keep the events that arrive while a page is being fetched, because the page may not include them. */
  expect() {
    this.early = [];
  }

  /** Add a page, then the events that arrived meanwhile. `first`: the page replaces the list. */
  page(answer, first) {
    if (first) this.clear();
    for (const record of answer.chains) if (!this.byId.has(record.id)) this.#keep(itemOf(record));
    this.next = answer.next ?? null;
    this.loaded = true;
    this.items.sort(newestFirst);
    this.stopExpecting();
  }

  /** Apply the events that arrived meanwhile: the page was added, or failed to load. */
  stopExpecting() {
    const early = this.early ?? [];
    this.early = null;
    for (const [event, name] of early) this.apply(event, name);
  }

  /** Apply an event; true if a row changed. Which chains fit a filter is for the server to say. */
  apply(event, name) {
    if (!event.chain) return false;
    this.early?.push([event, name]);
    const known = this.byId.get(event.chain);
    if (event.id !== event.chain || !["promise.created", "promise.settled"].includes(event.kind)) return known !== undefined;
    if (this.isFiltered) this.isOutdated = true;
    if (known && event.kind === "promise.settled") Object.assign(known, { state: event.state, settledAt: event.settled_at });
    if (!known && event.kind === "promise.created" && !this.isFiltered) this.#insert(itemOf({ ...event, func: event.func ?? name?.func, state: "pending" }));
    return this.byId.has(event.chain);
  }

  get isFiltered() {
    return this.filter.state !== "" || this.filter.text !== "";
  }

  #keep(item) {
    this.items.push(item);
    this.byId.set(item.id, item);
  }

  #insert(item) {
    const at = this.items.findIndex((other) => newestFirst(item, other) <= 0);
    this.items.splice(at < 0 ? this.items.length : at, 0, item);
    this.byId.set(item.id, item);
  }
}

const newestFirst = (a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : a.id > b.id ? -1 : 0);

const itemOf = (record) => ({
  id: record.id,
  func: record.func ?? null,
  group: record.group ?? null,
  state: record.state,
  createdAt: record.created_at,
  settledAt: record.settled_at ?? null,
});
