// Everything about one promise of the timeline: the one that is pointed at, else the one that was chosen last.

import { isCall } from "../model/chain.js";
import { asked, duration, fullTime } from "../text/durations.js";
import { readable } from "../text/payloads.js";
import { lines, shorten } from "../text/safe.js";
import { nameOf, phaseText, stateWord } from "../text/sentences.js";
import { bdi, byId, copy, el, stateIcon } from "./dom.js";

const FEW = 600;
const MOST_IDS = 20;
const MOST_TAGS = 40;

export class DetailView {
  #signature = "";
  #expanded = new Set();

  /** `acts(promise)` is what may be done with it. */
  constructor({ begin, nameOfId, acts }) {
    Object.assign(this, { begin, nameOfId, acts });
    this.node = byId("detail");
  }

  /** Show `row`; nothing is rebuilt unless something of it changed, so that one can read and select. */
  show(row) {
    const promise = row.promise;
    const signature = JSON.stringify([promise, this.#expanded.size]);
    if (signature === this.#signature) return;
    if (this.row?.promise.id !== promise.id) this.node.scrollTop = 0;
    this.#signature = signature;
    this.row = row;
    const parts = [this.#head(promise), this.acts(promise), this.#facts(promise), this.#attempts(row), this.#payloads(promise), this.#tags(promise)];
    this.#fill(parts.filter(Boolean));
  }

  clear() {
    this.#signature = "";
    this.#fill([]);
  }

  /** Whoever was here with the keyboard stays here. */
  #fill(parts) {
    const isHere = this.node.contains(document.activeElement);
    this.node.replaceChildren(...parts);
    if (isHere) this.node.focus();
  }

  #head(promise) {
    const button = el("button", { type: "button", class: "quiet", onclick: () => copy(promise.id, button) }, "Copy id");
    return el(
      "header",
      { class: "detail-head" },
      el("span", { class: "state", "data-state": promise.state }, stateIcon(promise.state), stateWord(promise.state)),
      el("strong", {}, bdi(nameOf(promise))),
      bdi(shorten(promise.id, 400), { class: "mono id" }),
      button,
    );
  }

  #facts(promise) {
    return facts([
      ["Created", this.#moment(promise.createdAt)],
      promise.settledAt !== null && ["Settled", this.#moment(promise.settledAt)],
      promise.settledAt === null && promise.timeoutAt && [promise.timer ? "Due" : "Deadline", this.#moment(promise.timeoutAt, asked)],
      isCall(promise) && ["Group", bdi(promise.group)],
      promise.parent && ["Called by", bdi(`${this.nameOfId(promise.parent)} (${shorten(promise.parent, 80)})`)],
      ...this.#task(promise),
      promise.awaits.length > 0 && ["Waits for", bdi(promise.awaits.slice(0, MOST_IDS).map(this.nameOfId).join(", "))],
    ]);
  }

  #task(promise) {
    const task = promise.task;
    if (!task) return [];
    return [
      ["Task", task.attempt ? `${task.state}, attempt ${task.attempt}` : task.state],
      task.pid && ["Worker", bdi(shorten(task.pid, 80), { class: "mono" })],
      task.trouble && ["Trouble", task.trouble],
      task.retry_at && ["Offered again", this.#moment(task.retry_at)],
    ];
  }

  #moment(at, told = duration) {
    return el("span", { title: fullTime(at) }, `+${told(at - this.begin())}`, el("small", {}, ` ${timeOfDay(at, this.begin())}`));
  }

  #attempts(row) {
    if (!isCall(row.promise)) return null;
    const items = row.phases.map((phase) => this.#phase(phase, row));
    return section("What happened", el("ol", { class: "phases" }, items));
  }

  #phase(phase, row) {
    const length = phase.to === null ? "until now" : duration(phase.to - phase.from);
    const broke = phase.broken ? ", broken off" : "";
    return el(
      "li",
      { "data-kind": phase.kind },
      el("span", { class: "when", title: fullTime(phase.from) }, `+${duration(phase.from - this.begin())}`),
      el("span", {}, bdi(phaseText(phase, row, this.nameOfId)), el("small", {}, `${broke} (${length})`)),
    );
  }

  #payloads(promise) {
    const value = promise.state === "rejected" ? "Error" : "Value";
    return el("div", { class: "payloads" }, this.#payload("Arguments", promise.param), this.#payload(value, promise.value));
  }

  #payload(name, payload) {
    if (!payload || !payload.text) return null;
    const text = lines(readable(payload));
    const whole = this.#expanded.has(`${this.row.promise.id}\u0000${name}`) || text.length <= FEW;
    const pre = el("pre", { tabindex: "0", "aria-label": name });
    pre.append(whole ? text : `${text.slice(0, FEW).toWellFormed()}…`);
    const note = payload.cut ? el("small", {}, `Cut: ${payload.bytes} bytes in all`) : null;
    return section(name, pre, whole ? null : this.#more(name), note);
  }

  #more(name) {
    const open = () => {
      this.#expanded.add(`${this.row.promise.id}\u0000${name}`);
      this.show(this.row);
    };
    return el("button", { type: "button", class: "quiet", onclick: open }, "Show more");
  }

  #tags(promise) {
    const tags = Object.entries(promise.tags);
    if (!tags.length) return null;
    const shown = tags.slice(0, MOST_TAGS).map(([name, value]) => [bdi(shorten(name, 80)), bdi(shorten(value, 200), { class: "mono" })]);
    return section("Tags", facts(shown));
  }
}

/** The date stands there only where it is another one than the chain's. */
function timeOfDay(at, begin) {
  const time = fullTime(at);
  return time.slice(0, 10) === fullTime(begin).slice(0, 10) ? time.slice(11) : time.slice(0, -4);
}

function facts(pairs) {
  return el("dl", {}, pairs.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

function section(name, ...children) {
  return el("section", {}, el("h3", {}, name), ...children);
}
