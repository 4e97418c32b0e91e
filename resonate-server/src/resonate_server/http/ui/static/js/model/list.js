// The chains in the list: pages from the server. Pure.

const ROW_CHANGES = ["promise.created", "promise.settled"];

export class ChainList {
  filter = { state: "", text: "" };
  /** Whether chains have begun or ended since the first page was requested. Which of them to show is for the server to say. */
  isOutdated = false;

  constructor() {
    this.clear();
  }

  clear() {
    this.items = [];
    this.byId = new Map();
    this.next = null;
    this.loaded = false;
  }

  get isFiltered() {
    return this.filter.state !== "" || this.filter.text !== "";
  }

  /** Add a page. `first`: it replaces the list. */
  page(answer, first) {
    if (first) this.clear();
    const added = answer.chains.filter(({ id }) => !this.byId.has(id)).map(itemOf);
    for (const item of added) this.byId.set(item.id, item);
    this.items.push(...added);
    this.next = answer.next ?? null;
    this.loaded = true;
  }

  /** Apply an event; true if a row has changed, or may have come or gone. */
  apply({ kind, id, chain, state, settled_at: settledAt }) {
    if (id !== chain || !ROW_CHANGES.includes(kind)) return false;
    this.isOutdated = true;
    const known = this.byId.get(id);
    if (known && kind === "promise.settled") Object.assign(known, { state, settledAt });
    return true;
  }
}

const itemOf = ({ id, func, group, state, created_at: createdAt, settled_at: settledAt }) => ({ id, func, group, state, createdAt, settledAt });
