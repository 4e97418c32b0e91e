// The log in plain sentences, newest first. It is bounded, updated in batches, and pauses while the user reads it.

import { clockTime, fullTime } from "../text/durations.js";
import { byId, bdi, el, say } from "./dom.js";

const MOST = 200;
const GULP = 200;
const ANNOUNCED = ["server.back", "worker.left", "worker.gone", "worker.connected", "task.lost", "promise.settled"];
const ANNOUNCE_EVERY = 3000;

export class LogView {
  #waiting = [];
  #hovered = false;
  #timer = 0;
  #toAnnounce = "";
  #announcing = 0;

  constructor() {
    this.node = byId("log");
    this.node.addEventListener("pointerenter", () => this.#hover(true));
    this.node.addEventListener("pointerleave", () => this.#hover(false));
    this.node.addEventListener("scroll", () => this.#resume(), { passive: true });
    byId("log-more").addEventListener("click", () => this.#catchUp());
  }

  add(event, text) {
    this.#waiting.push({ at: event.at, kind: event.kind, state: event.state ?? null, text });
    if (this.#waiting.length > MOST) this.#waiting.shift();
    this.#later();
  }

  #later() {
    this.#timer ||= setTimeout(() => this.#gulp(), GULP);
  }

  #gulp() {
    this.#timer = 0;
    if (this.#isRead) return this.#tellWaiting();
    const items = this.#waiting.splice(0).map(entry).reverse();
    this.node.prepend(...items);
    while (this.node.children.length > MOST) this.node.lastElementChild.remove();
    return this.#tellWaiting();
  }

  get #isRead() {
    return this.#hovered || this.node.scrollTop > 4;
  }

  #tellWaiting() {
    const count = this.#waiting.length;
    byId("log-more").disabled = count === 0;
    say(byId("log-more"), count ? `Paused, ${count}${count === MOST ? " or more" : ""} new` : "Live");
  }

  #hover(is) {
    this.#hovered = is;
    this.#resume();
  }

  #resume() {
    if (!this.#isRead && this.#waiting.length) this.#later();
  }

  #catchUp() {
    this.node.scrollTop = 0;
    this.#hovered = false;
    this.#gulp();
  }

  /** Announce only the latest sentence per interval: a screen reader cannot keep up with a busy server. */
  announce(event, text) {
    if (!ANNOUNCED.includes(event.kind)) return;
    this.#toAnnounce = text;
    this.#announcing ||= setTimeout(() => {
      this.#announcing = 0;
      say(byId("announce"), this.#toAnnounce);
    }, ANNOUNCE_EVERY);
  }
}

function entry({ at, kind, state, text }) {
  return el("li", { "data-kind": kind, "data-state": state }, el("time", { title: fullTime(at) }, clockTime(at)), el("i", { class: "dot", "aria-hidden": "true" }), bdi(text));
}
