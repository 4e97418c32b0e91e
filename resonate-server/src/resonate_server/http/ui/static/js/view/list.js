// The list of chains: a listbox with a single tab stop, of which only the visible rows exist.

import { clockTime, coarse, duration, fullTime, rough } from "../text/durations.js";
import { shorten } from "../text/safe.js";
import { stateWord } from "../text/sentences.js";
import { attribute, bdi, byId, el, say, sayId, stateIcon } from "./dom.js";
import { Virtual } from "./virtual.js";

export class ListView {
  #active = -1;
  #count = 0;

  /** `choose(id)`; `more()`: called when the end comes into view; `now()`. */
  constructor({ choose, more, now }) {
    Object.assign(this, { choose, now, chosen: null, items: [] });
    this.scroller = byId("chains");
    this.rows = new Virtual({
      scroller: this.scroller,
      canvas: byId("chains-canvas"),
      key: (item) => item.id,
      create: () => this.#create(),
      update: (row, item, index) => this.#update(row, item, index),
      near: more,
    });
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.scroller.addEventListener("click", (event) => this.#click(event));
  }

  /** Show `items`, or the text `none`. If the user has scrolled, keep the visible rows in place. */
  show(items, total, none) {
    const activeId = this.items[this.#active]?.id;
    const top = this.items[Math.floor(this.scroller.scrollTop / this.rows.height)]?.id;
    this.items = items.slice();
    this.#active = activeId === undefined ? -1 : this.items.findIndex((item) => item.id === activeId);
    this.rows.items = this.items;
    if (top !== undefined && this.scroller.scrollTop > 4) this.#keep(top);
    say(byId("chains-count"), total);
    byId("chains-empty").hidden = this.items.length > 0;
    say(byId("chains-empty"), none);
  }

  #keep(id) {
    const within = this.scroller.scrollTop % this.rows.height;
    const index = this.items.findIndex((item) => item.id === id);
    if (index >= 0) this.scroller.scrollTop = index * this.rows.height + within;
  }

  mark(id) {
    this.chosen = id;
    this.rows.draw();
  }

  #create() {
    this.#count += 1;
    return el(
      "div",
      { class: "chain", role: "option", id: `chain-row-${this.#count}` },
      el("span", { class: "chain-icon" }),
      el("span", { class: "chain-name" }, bdi("", { class: "func" }), bdi("", { class: "id middle" })),
      el("span", { class: "chain-duration" }),
      el("span", { class: "chain-state" }),
      el("time", { class: "chain-time" }),
    );
  }

  #update(row, item, index) {
    const now = this.now();
    const took = duration((item.settledAt ?? now) - item.createdAt);
    const pending = item.state === "pending";
    if (row.dataset.state !== item.state) row.querySelector(".chain-icon").replaceChildren(stateIcon(item.state));
    attribute(row, "data-chain", item.id);
    attribute(row, "data-state", item.state);
    attribute(row, "aria-selected", String(item.id === this.chosen));
    attribute(row, "aria-posinset", index + 1);
    attribute(row, "aria-setsize", this.items.length);
    attribute(row, "data-active", index === this.#active);
    attribute(row, "title", shorten(item.id, 300));
    attribute(row, "aria-label", `${item.func ?? "promise"}, ${shorten(item.id, 60)}, ${stateWord(item.state)} ${pending ? "for" : "after"} ${took}`);
    say(row.querySelector(".func"), item.func ? shorten(item.func, 60) : "promise");
    sayId(row.querySelector(".id"), shorten(item.id, 200));
    say(row.querySelector(".chain-state"), stateWord(item.state));
    say(row.querySelector(".chain-duration"), shortDuration((item.settledAt ?? now) - item.createdAt, pending));
    say(row.querySelector(".chain-time"), clockTime(item.createdAt));
    attribute(row.querySelector(".chain-time"), "title", `begun ${fullTime(item.createdAt)}`);
    if (index === this.#active) attribute(this.scroller, "aria-activedescendant", row.id);
  }

  #click(event) {
    const row = event.target.closest("[data-chain]");
    const index = row ? this.items.findIndex((item) => this.rows.element(item.id) === row) : -1;
    if (index < 0) return;
    this.#move(index);
    this.choose(this.items[index].id);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.rows.height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.#move(this.#start() + steps[event.key]);
    else if ((event.key === "Enter" || event.key === " ") && this.items[this.#active]) this.choose(this.items[this.#active].id);
    else return;
    event.preventDefault();
  }

  #start() {
    if (this.#active >= 0) return this.#active;
    return this.items.findIndex((item) => item.id === this.chosen);
  }

  #move(to) {
    if (!this.items.length) return;
    this.#active = Math.min(this.items.length - 1, Math.max(0, to));
    this.rows.reveal(this.#active);
  }
}

/** A short text for a column of fixed width. Running durations have no tenths. */
function shortDuration(ms, lasts) {
  if (ms >= 60_000) return rough(ms);
  return lasts ? coarse(ms) : duration(ms);
}
