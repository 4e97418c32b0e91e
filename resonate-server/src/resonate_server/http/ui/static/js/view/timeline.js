// The chosen chain as a timeline: one row per promise, its phases as stripes, and a cursor "now" while it lasts.

import { expectedEnd, finalSpan, marks, runningSpan } from "../model/axis.js";
import { rowsOf } from "../model/rows.js";
import { duration, fullTime, mark } from "../text/durations.js";
import { brief } from "../text/payloads.js";
import { ownPart, shorten, shortPid } from "../text/safe.js";
import { flagOf, markOf, phaseParts, phaseText } from "../text/phases.js";
import { headline, nameOf, rowSentence, stateWord } from "../text/sentences.js";
import { attribute, bdi, byId, el, icon, say, sayId, sayParts, stateIcon } from "./dom.js";
import { Virtual } from "./virtual.js";

/** What is begun again has another shade; so many are told apart from their neighbours, not all from one another. */
const SHADES = 4;
const MARK_ROOM = 84;
const SLOW = 250;

/** A stream that begins again within this time was no outage. */
const NOTICEABLE = 1000;

/** Who asked for less motion gets steps instead of frames. */
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const nextFrame = (then) => (calm.matches ? setTimeout(then, 2 * SLOW) : requestAnimationFrame(then));

export class TimelineView {
  #span = 0;
  #frame = 0;
  #slowAt = 0;
  #focused = null;
  #wasPending = false;
  #count = 0;

  /** Since when the server is not heard of, by this machine's clock; null while it is. */
  awaySince = null;

  /** `pick(row, pinned)` when a row is hovered, focused or chosen; `isLate(worker, ttl)` as the roster tells; `now()`. */
  constructor({ pick, isLate, now }) {
    Object.assign(this, { pick, isLate, now, chain: null, rows: [] });
    this.tree = byId("timeline");
    this.virtual = new Virtual({
      scroller: this.tree,
      canvas: byId("timeline-canvas"),
      key: (row) => row.promise.id,
      create: () => this.#create(),
      update: (element, row, index) => this.#update(element, row, index),
    });
    this.tree.addEventListener("keydown", (event) => this.#key(event));
    for (const kind of ["pointerover", "focusin", "click"]) this.tree.addEventListener(kind, (event) => this.#point(event));
    new ResizeObserver(() => this.#drawAxis()).observe(byId("axis"));
  }

  /** Show `chain` as it is now; another one than before begins at the top. */
  show(chain) {
    if (this.chain?.id !== chain.id) this.#reset();
    this.chain = chain;
    this.refresh();
  }

  #reset() {
    this.#span = 0;
    this.#focused = null;
    this.#wasPending = false;
    this.tree.scrollTop = 0;
  }

  refresh() {
    if (!this.chain?.root) return;
    this.rows = rowsOf(this.chain);
    this.byId = new Map(this.rows.map((row) => [row.promise.id, row]));
    this.#rescale();
    this.#drawOutages();
    this.virtual.items = this.rows;
    this.#tellHeadline();
    tellStory(this.chain.story);
    byId("timeline-cut").hidden = !this.chain.cut;
    this.#run();
  }

  get begin() {
    return this.chain.root.createdAt;
  }

  get end() {
    return this.begin + this.#span;
  }

  nameOfId = (id) => {
    const row = this.byId.get(id);
    return row ? nameOf(row.promise) : shorten(id, 24);
  };

  // ── the axis ──

  #rescale() {
    const pending = this.chain.isPending;
    const span = pending ? this.#pendingSpan() : finalSpan(this.#end() - this.begin);
    if (span === this.#span) return;
    this.#glide();
    this.#span = span;
    this.#drawAxis();
  }

  #pendingSpan() {
    const elapsed = this.now() - this.begin;
    return runningSpan(this.#span, elapsed, expectedEnd(this.chain.promises.values(), this.begin, elapsed));
  }

  #end() {
    let end = this.begin;
    for (const promise of this.chain.promises.values()) end = Math.max(end, promise.settledAt ?? 0);
    return end;
  }

  /** Bars glide to their places on a new scale, but never while they grow. */
  #glide() {
    if (!this.#span) return;
    this.tree.classList.add("glide");
    clearTimeout(this.gliding);
    this.gliding = setTimeout(() => this.tree.classList.remove("glide"), 350);
  }

  #drawAxis() {
    const axis = byId("axis");
    if (!this.#span || !axis.clientWidth) return;
    const count = Math.max(2, Math.floor(axis.clientWidth / MARK_ROOM));
    const found = marks(this.#span, count);
    axis.replaceChildren(...found.map((at) => this.#mark(at)));
    byId("grid").replaceChildren(...found.map((at) => placed(el("i"), at / this.#span)));
  }

  #mark(at) {
    const share = at / this.#span;
    const node = el("span", { class: share > 0.94 ? "mark last" : "mark", title: fullTime(this.begin + at) }, mark(at));
    return placed(node, share);
  }

  /** A band across all rows for each time in which the server was away. */
  #drawOutages() {
    byId("outages").replaceChildren(...this.chain.outages.map(({ from, to }) => {
      const begin = Math.max(from, this.begin);
      const node = placed(el("span", { class: "outage" }, el("b", {}, `server away ${duration(to - from)}`)), (begin - this.begin) / this.#span);
      node.style.width = percent((to - begin) / this.#span);
      return node;
    }));
  }

  // ── rows ──

  #create() {
    this.#count += 1;
    return el(
      "div",
      { class: "row", role: "treeitem", id: `row-${this.#count}` },
      el("span", { class: "row-label" }, el("span", { class: "row-guides" }), el("span", { class: "row-icon" }), bdi("", { class: "row-name" }), el("span", { class: "row-attempt", hidden: true }), bdi("", { class: "row-id middle" })),
      el("span", { class: "row-track" }),
      el("span", { class: "row-result" }, bdi("", { class: "parts" })),
    );
  }

  #update(element, row, index) {
    const promise = row.promise;
    if (element.dataset.state !== promise.state) element.querySelector(".row-icon").replaceChildren(stateIcon(promise.state));
    attribute(element, "data-promise", promise.id);
    attribute(element, "data-state", promise.state);
    attribute(element, "aria-level", row.depth + 1);
    attribute(element, "aria-posinset", index + 1);
    attribute(element, "aria-setsize", this.rows.length);
    attribute(element, "aria-selected", String(promise.id === this.#focused));
    attribute(element, "tabindex", promise.id === (this.#focused ?? this.chain.root.id) ? "0" : "-1");
    attribute(element, "aria-label", this.#sentence(row));
    say(element.querySelector(".row-name"), nameOf(promise));
    sayId(element.querySelector(".row-id"), nameOf(promise) === promise.id ? "" : shorten(this.#ownPart(promise), 200));
    this.#attempt(element.querySelector(".row-attempt"), row);
    this.#guides(element.querySelector(".row-guides"), row);
    this.#outcome(element, row);
    this.#stripes(element.querySelector(".row-track"), row);
  }

  #sentence(row) {
    const flag = flagOf(row, this.isLate);
    return `${rowSentence(row, this.now(), this.nameOfId)}${flag ? ` (${flag.words})` : ""}`;
  }

  /** What its id has that its parent's, or at least the root's, has not. */
  #ownPart({ id, parent }) {
    const own = parent === null ? id : ownPart(id, parent);
    return own === id && id !== this.chain.id ? ownPart(id, this.chain.id) : own;
  }

  /** From the second attempt on, its number beside the name, with a mark and a shade: stripes may be too short. */
  #attempt(node, row) {
    const attempt = row.promise.task?.attempt ?? 0;
    const latest = row.phases.findLast((phase) => phase.kind === "running");
    node.hidden = attempt < 2;
    attribute(node, "data-shade", shade(latest));
    attribute(node, "data-mark", latest && markOf(latest));
    attribute(node, "title", latest ? phaseText(latest, row, this.nameOfId) : `attempt ${attempt}`);
    say(node, String(attempt));
  }

  #guides(node, row) {
    const shape = row.more.map((more) => (more ? "1" : "0")).join("");
    if (node.dataset.shape === shape) return;
    node.dataset.shape = shape;
    node.replaceChildren(...row.more.map((more, index) => el("i", { class: guide(more, index === row.more.length - 1) })));
  }

  /** What became of it, or what keeps it from going on. */
  #outcome(element, row) {
    const { promise } = row;
    const node = element.querySelector(".row-result");
    const flag = flagOf(row, this.isLate);
    attribute(element, "data-flag", flag?.kind);
    attribute(node, "data-state", promise.state);
    sayParts(node.firstChild, flag ? [flag.words] : outcomeParts(promise));
    attribute(node, "title", promise.state === "pending" ? null : shorten(brief(promise.value, 300), 300));
  }

  #stripes(track, row) {
    const wanted = barsOf(row, this);
    const old = new Map([...track.children].map((node) => [node.dataset.key, node]));
    for (const stripe of wanted) {
      const node = old.get(stripe.key) ?? track.appendChild(newStripe(stripe));
      old.delete(stripe.key);
      this.#draw(node, stripe);
    }
    for (const node of old.values()) node.remove();
  }

  #draw(node, stripe) {
    for (const [name, value] of Object.entries(stripe.attributes)) attribute(node, name, value);
    if (node.firstChild?.classList?.contains("stripe-text")) sayParts(node.firstChild, stripe.parts);
    node.style.left = percent((stripe.from - this.begin) / this.#span);
    node.openFrom = stripe.to === null ? stripe.from : null;
    if (stripe.width !== false) this.#widen(node, stripe.from, stripe.to ?? this.now());
  }

  #widen(node, from, to) {
    node.style.width = percent(Math.max(0, to - from) / this.#span);
  }

  // ── while it lasts ──

  #run() {
    const pending = this.chain.isPending;
    byId("now").hidden = !pending;
    byId("now-mark").hidden = !pending;
    if (pending) this.#moveNow();
    if (pending && !this.#frame) this.#frame = nextFrame(() => this.#tick());
  }

  #tick() {
    this.#frame = 0;
    if (!this.chain?.isPending) return;
    if (this.#pendingSpan() !== this.#span) this.refresh();
    for (const node of this.tree.querySelectorAll(".stripe[data-open]")) this.#widen(node, node.openFrom, this.now());
    this.#moveNow();
    say(byId("chain-duration"), duration(this.now() - this.begin));
    this.#everyNowAndThen();
    if (!this.#frame) this.#frame = nextFrame(() => this.#tick());
  }

  #moveNow() {
    const elapsed = this.now() - this.begin;
    const move = `translateX(${percent(Math.min(1, elapsed / this.#span))})`;
    byId("now").style.transform = move;
    byId("now-mark").style.transform = move;
    say(byId("now-mark").firstElementChild, duration(elapsed));
  }

  /** What is read rather than seen need not change with every frame. */
  #everyNowAndThen() {
    const at = performance.now();
    if (at - this.#slowAt < SLOW) return;
    this.#slowAt = at;
    this.#tellHeadline();
    for (const row of this.rows.slice(...this.virtual.range)) {
      if (row.promise.state !== "pending") continue;
      const element = this.virtual.element(row.promise.id);
      if (!element) continue;
      attribute(element, "aria-label", this.#sentence(row));
      this.#outcome(element, row);
      if (row.promise.task?.retry_at) this.#stripes(element.querySelector(".row-track"), row);
    }
  }

  #tellHeadline() {
    const away = this.awaySince === null ? 0 : Date.now() - this.awaySince;
    const told = away > NOTICEABLE ? { tone: "gap", text: `The server is away for ${duration(away)}. What it has acknowledged is kept` } : headline(this.rows, this.now(), this.nameOfId);
    const root = this.chain.root;
    attribute(byId("headline"), "data-tone", told.tone);
    say(byId("headline-text"), told.text);
    say(byId("chain-duration"), duration((root.settledAt ?? this.now()) - this.begin));
  }

  // ── pointing ──

  #point(event) {
    const element = event.target.closest(".row");
    const row = element && this.rows.find((one) => this.virtual.element(one.promise.id) === element);
    if (!row) return;
    if (event.type !== "pointerover") this.#focus(row, false);
    this.pick(row, event.type !== "pointerover");
  }

  #focus(row, move) {
    this.#focused = row.promise.id;
    if (move) this.virtual.reveal(this.rows.indexOf(row));
    for (const element of this.virtual.elements) {
      const own = element === this.virtual.element(row.promise.id);
      attribute(element, "tabindex", own ? "0" : "-1");
      attribute(element, "aria-selected", String(own));
    }
    if (move) this.virtual.element(row.promise.id)?.focus();
  }

  #key(event) {
    const at = this.rows.findIndex((row) => row.promise.id === (this.#focused ?? this.chain?.root.id));
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1, ArrowLeft: this.#parentOf(at) };
    const row = this.rows[targets[event.key] ?? -1];
    if (!(event.key in targets)) return;
    event.preventDefault();
    if (row) this.#focus(row, true);
  }

  #parentOf(at) {
    return this.rows.findIndex((row) => row.promise.id === this.rows[at]?.promise.parent);
  }
}

/** The first sentence is always seen. */
function tellStory([first = "", ...others]) {
  byId("story").hidden = !first;
  say(byId("story-first"), first);
  say(byId("story-more"), others.join(" "));
}

const percent = (share) => `${(share * 100).toFixed(3)}%`;

function placed(node, share) {
  node.style.left = percent(share);
  return node;
}

function guide(more, isLast) {
  if (!isLast) return more ? "pass" : "none";
  return more ? "branch" : "end";
}

/** Of one that failed, that it did stands before why: it is shown in any case. */
function outcomeParts(promise) {
  if (promise.state === "pending") return [];
  if (promise.timer && promise.state === "resolved") return ["over"];
  if (promise.state === "resolved") return [brief(promise.value, 80)];
  return promise.value ? [stateWord(promise.state), `: ${brief(promise.value, 80)}`] : [stateWord(promise.state)];
}

// ── stripes ──

/** Everything drawn in a row's track: phases, torn edges, what a timer has yet to go, the end. */
function barsOf(row, view) {
  const stripes = row.phases.map((phase) => phaseStripe(phase, row, view));
  for (const phase of row.phases) if (phase.broken && phase.to !== null) stripes.push(breakMark(phase, row, view));
  const promise = row.promise;
  if (promise.timer && promise.state === "pending") stripes.push(aheadStripe(promise, view));
  if (promise.settledAt !== null) stripes.push(endMark(promise, view));
  if (promise.state === "rejected") stripes.push(saidStripe(promise, view));
  return stripes;
}

function phaseStripe(phase, row, view) {
  const parts = phaseParts(phase, row, view.nameOfId, view.now());
  return {
    key: `${phase.kind}:${phase.from}`,
    from: phase.from,
    to: phase.to,
    parts,
    attributes: {
      "data-kind": phase.kind,
      "data-attempt": phase.attempt,
      "data-shade": phase.kind === "running" ? shade(phase) : null,
      "data-mark": markOf(phase),
      "data-step": phase.step,
      "data-broken": phase.broken,
      "data-known": String(phase.known),
      "data-open": phase.to === null,
      "data-reason": phase.reason || null,
      title: title(phase, phaseText(phase, row, view.nameOfId), view),
    },
  };
}

const shade = (phase) => ((phase?.retries ?? 0) % SHADES) + 1;

function title(phase, text, view) {
  const from = `${phase.known ? "" : "begin not known, at the latest "}${fullTime(phase.from)}`;
  const length = phase.to === null ? "" : `, ${duration(phase.to - phase.from)}`;
  const after = `+${duration(phase.from - view.begin)}`;
  return `${text}\n${after} (${from})${length}${phase.pid ? `\n${phase.kind === "waiting" ? "offered to " : ""}worker ${shortPid(phase.pid)}` : ""}`;
}

function breakMark(phase, row, view) {
  const text = phase.kind === "running" ? `attempt ${phase.attempt} broke off` : "its last worker was gone; nothing broke off";
  return {
    key: `broken:${phase.to}`,
    from: phase.to,
    to: phase.to,
    width: false,
    icon: "broken",
    attributes: { "data-kind": "broken", "data-attempt": phase.attempt, title: `${text}\n+${duration(phase.to - view.begin)} (${fullTime(phase.to)})` },
  };
}

function aheadStripe(promise, view) {
  const end = Math.min(promise.timeoutAt, view.begin + 1e15);
  return { key: "ahead", from: promise.createdAt, to: end, attributes: { "data-kind": "ahead", title: `due +${duration(end - view.begin)} (${fullTime(end)})` } };
}

function endMark(promise, view) {
  const text = `${stateWord(promise.state)} +${duration(promise.settledAt - view.begin)} (${fullTime(promise.settledAt)})`;
  return { key: "settled", from: promise.settledAt, to: promise.settledAt, width: false, attributes: { "data-kind": "settled", "data-state": promise.state, title: text } };
}

function saidStripe(promise, view) {
  return { key: "said", from: promise.settledAt, to: view.end, parts: [brief(promise.value, 80)], attributes: { "data-kind": "said", "data-state": promise.state } };
}

function newStripe(stripe) {
  const inside = stripe.icon ? icon(stripe.icon) : stripe.parts ? el("span", { class: "stripe-text parts" }) : null;
  return el("span", { class: "stripe", "data-key": stripe.key }, inside);
}

