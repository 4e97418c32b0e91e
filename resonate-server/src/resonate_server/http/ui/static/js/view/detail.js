// The details of one promise of the timeline: the one under the pointer, else the one that was selected last.

import { isCall, originOf } from "../model/chain.js";
import { asked, duration, fullTime } from "../text/durations.js";
import { argumentsOf, brief, failure, readable } from "../text/payloads.js";
import { phaseText } from "../text/phases.js";
import { lines, shorten, shortPid } from "../text/safe.js";
import { nameOf, stateWord } from "../text/sentences.js";
import { bdi, byId, copy, el, sayId, stateIcon } from "./dom.js";

const FEW = 600;
const MOST_IDS = 20;
const MOST_TAGS = 40;

export class DetailView {
  #signature = "";
  /** Long texts that are shown in full, and payloads that are folded; by promise and name. */
  #whole = new Set();
  #folded = new Set();

  /** `rows()`: the chain's rows; `acts(promise)`: the buttons for a promise. */
  constructor({ begin, nameOfId, rows, acts }) {
    Object.assign(this, { begin, nameOfId, rows, acts });
    this.node = byId("detail");
  }

  /** Show `row`. Rebuild only if something changed, so that users can read and select text. */
  show(row) {
    const promise = row.promise;
    const signature = JSON.stringify([promise, this.#whole.size]);
    if (signature === this.#signature) return;
    if (this.row?.promise.id !== promise.id) this.node.scrollTop = 0;
    this.#signature = signature;
    this.row = row;
    const parts = [this.#head(promise), this.acts(promise), this.#facts(promise), this.#failure(row), this.#attempts(row), this.#payloads(promise), this.#tags(promise)];
    this.#fill(parts.filter(Boolean));
  }

  clear() {
    this.#signature = "";
    this.#fill([]);
  }

  /** Keep the keyboard focus in this pane. */
  #fill(parts) {
    const isHere = this.node.contains(document.activeElement);
    this.node.replaceChildren(...parts);
    if (isHere) this.node.focus();
  }

  #head(promise) {
    const id = bdi("", { class: "mono id middle" });
    sayId(id, shorten(promise.id, 400));
    return el(
      "header",
      { class: "detail-head" },
      el("span", { class: "state", "data-state": promise.state }, stateIcon(promise.state), stateWord(promise.state)),
      el("strong", {}, bdi(nameOf(promise))),
      id,
      copier(promise.id, "Copy id"),
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
      task.pid && ["Worker", bdi(shorten(task.pid, 80), { class: "mono" }), copier(task.pid, "Copy", "Copy the worker's id")],
      task.trouble && ["Trouble", task.trouble],
      task.retry_at && ["Next attempt", this.#moment(task.retry_at)],
    ];
  }

  #moment(at, told = duration) {
    return el("span", { title: fullTime(at) }, `+${told(at - this.begin())}`, el("small", {}, ` ${timeOfDay(at, this.begin())}`));
  }

  /** Why it failed: type, message, and the origin of the failure, which may be far below it. */
  #failure(row) {
    const told = row.promise.state === "rejected" && failure(row.promise.value);
    if (!told) return null;
    const origin = originOf(row, this.rows());
    const pid = origin.phases.findLast((phase) => phase.pid)?.pid;
    const where = `${nameOf(origin.promise)} (${shorten(origin.promise.id, 80)})${pid ? ` on worker ${shortPid(pid)}` : ""}`;
    return section("Why it failed", facts([told.type && ["Type", bdi(told.type, { class: "mono" })], ["Message", bdi(told.message), copier(told.message, "Copy", "Copy the message")], ["Where", bdi(where)]]));
  }

  #attempts(row) {
    if (!isCall(row.promise)) return null;
    const items = row.phases.map((phase) => this.#phase(phase, row));
    return section("What happened", el("ol", { class: "phases" }, items));
  }

  #phase(phase, row) {
    const length = phase.to === null ? "until now" : duration(phase.to - phase.from);
    const broke = phase.broken && phase.kind === "running" ? ", broken off" : "";
    return el(
      "li",
      { "data-kind": phase.kind },
      el("span", { class: "when", title: fullTime(phase.from) }, `+${duration(phase.from - this.begin())}`),
      el("span", {}, bdi(phaseText(phase, row, this.nameOfId)), el("small", {}, `${broke} (${length})`)),
    );
  }

  #payloads({ param, value, state }) {
    const told = state === "rejected" && failure(value);
    const error = told ? { ...value, text: told.stack || told.rest } : value;
    return el(
      "div",
      { class: "payloads" },
      this.#payload("Arguments", param && argumentsOf(param)),
      this.#payload(state === "resolved" ? "Result" : told?.stack ? "Stack" : "Error", error),
    );
  }

  /** A payload below its summary. Folding it is remembered for this promise. */
  #payload(name, payload) {
    if (!payload?.text) return null;
    const key = `${this.row.promise.id}\u0000${name}`;
    const text = lines(readable(payload));
    const whole = this.#whole.has(key) || text.length <= FEW;
    const pre = el("pre", { tabindex: "0", "aria-label": name });
    pre.append(whole ? text : `${text.slice(0, FEW).toWellFormed()}…`);
    const note = payload.cut ? el("small", {}, `Cut: ${payload.bytes} bytes in all`) : null;
    const ontoggle = (event) => this.#folded[event.target.open ? "delete" : "add"](key);
    return el(
      "details",
      { open: !this.#folded.has(key), ontoggle },
      el("summary", {}, el("h3", {}, name), bdi(brief(payload, 80), { class: "mono" })),
      pre,
      copier(payload.text, "Copy", `Copy: ${name}`),
      whole ? null : this.#more(key),
      note,
    );
  }

  #more(key) {
    const open = () => {
      this.#whole.add(key);
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

/** A button that copies `text`. */
function copier(text, label, heard = label) {
  const button = el("button", { type: "button", class: "quiet", "aria-label": heard, onclick: () => copy(text, button) }, el("span", { class: "label" }, label));
  return button;
}

/** Show the date only if it differs from the chain's. */
function timeOfDay(at, begin) {
  const time = fullTime(at);
  return time.slice(0, 10) === fullTime(begin).slice(0, 10) ? time.slice(11) : time.slice(0, -4);
}

function facts(pairs) {
  return el("dl", {}, pairs.filter(Boolean).map(([name, ...values]) => el("div", {}, el("dt", {}, name), el("dd", {}, values))));
}

function section(name, ...children) {
  return el("section", {}, el("h3", {}, name), ...children);
}
