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

  /** Apply an event; true if a row changed. */
  apply(event, name) {
    if (!event.chain) return false;
    this.early?.push([event, name]);
    const known = this.byId.get(event.chain);
    if (event.id !== event.chain) return known !== undefined;
    if (event.kind === "promise.created" && !known) return this.#arrive(event, name);
    if (event.kind === "promise.settled") return this.#settle(event, name, known);
    return known !== undefined;
  }

  #arrive(event, name) {
    const item = itemOf({ ...event, func: event.func ?? name?.func ?? null, state: "pending" });
    if (!this.#matches(item)) return false;
    this.#insert(item);
    return true;
  }

  #settle(event, name, known) {
    const item = known ?? itemOf({ ...event, func: name?.func ?? null, group: name?.group ?? null });
    Object.assign(item, { state: event.state, settledAt: event.settled_at });
    const fits = this.#matches(item);
    if (known && !fits) this.#remove(item);
    if (!known && fits && this.#isWithinPages(item)) this.#insert(item);
    return known !== undefined || fits;
  }

  /** Whether `item` belongs to a page that is loaded: an older one will come with its own page. */
  #isWithinPages(item) {
    const last = this.items[this.items.length - 1];
    return this.next === null || (last !== undefined && item.createdAt >= last.createdAt);
  }

  #matches(item) {
    const { state, text } = this.filter;
    if (state && item.state !== state) return false;
    const wanted = text.toLowerCase();
    return !wanted || item.id.toLowerCase().includes(wanted) || (item.func ?? "").toLowerCase().includes(wanted);
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

  #remove(item) {
    this.byId.delete(item.id);
    this.items.splice(this.items.indexOf(item), 1);
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
