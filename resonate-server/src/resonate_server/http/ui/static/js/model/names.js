// The names of promises: only the creation event has them, later events have only the id.

const MOST = 20_000;

export class Names {
  #known = new Map();

  /** Remember what a record or an event says about a promise. */
  learn({ id, func = null, timer = false, created_at: createdAt, timeout_at: timeoutAt, group = null, tags = null, parent = null, chain = null }) {
    if (this.#known.size >= MOST) this.#known.delete(this.#known.keys().next().value);
    this.#known.set(id, { func, timer, span: timeoutAt - createdAt, group, local: tags?.["resonate:scope"] === "local", parent, root: chain === id });
  }

  get(id) {
    return this.#known.get(id) ?? null;
  }
}
