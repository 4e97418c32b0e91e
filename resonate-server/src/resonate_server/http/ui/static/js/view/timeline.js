// The selected chain as a timeline: one row per promise, its phases as stripes, and a cursor "now" while it is pending.

import { Scale, expectedEnd, finalSpan, marks, runningSpan } from "../model/axis.js";
import { fold, rowsOf } from "../model/chain.js";
import { duration, fullTime, mark } from "../text/durations.js";
import { brief } from "../text/payloads.js";
import { flagOf, markOf, phaseText } from "../text/phases.js";
import { ownPart, shorten } from "../text/safe.js";
import { headline, nameOf, rowSentence, stateWord } from "../text/sentences.js";
import { barsOf, shade } from "./bars.js";
import { attribute, bdi, byId, el, icon, reconcile, say, sayId, sayParts, stateIcon } from "./dom.js";
import { Virtual } from "./virtual.js";

const MARK_ROOM = 84;
const SLOW = 250;

/** A stream that reconnects within this time does not count as an outage. */
const NOTICEABLE = 1000;

/** Users who prefer reduced motion get steps instead of frames. */
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const nextFrame = (then) => (calm.matches ? setTimeout(then, 2 * SLOW) : requestAnimationFrame(then));

export class TimelineView {
  scale = new Scale();
  #frame = 0;
  #slowAt = 0;
  #focused = null;
  #folds = null;

  /** When the server became unreachable, by this machine's clock; null while it is reachable. */
  awaySince = null;

  /**
   * `pick(row, pinned)`: called when a row is hovered, focused or selected; `isLate(worker, ttl)` and `isAway(worker)`: as in the roster;
   * `changed()`: called after rows or scale have changed; `now()`.
   */
  constructor({ pick, isLate, isAway, changed, now }) {
    Object.assign(this, { pick, isLate, isAway, changed, now, chain: null, all: [], rows: [], byId: new Map() });
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

  /** Show the current state of `chain`; scroll to the top if it is a different chain. */
  show(chain) {
    if (this.chain?.id !== chain.id) this.#reset();
    this.chain = chain;
    this.refresh();
  }

  clear() {
    Object.assign(this, { chain: null, all: [], byId: new Map() });
    this.#showRows();
    tellStory([]);
    byId("outages").replaceChildren();
    for (const part of ["now", "now-mark", "timeline-cut"]) byId(part).hidden = true;
  }

  #reset() {
    this.scale = new Scale();
    this.#focused = null;
    this.#folds?.clear();
    this.tree.scrollTop = 0;
  }

  refresh() {
    if (!this.chain?.root) return;
    this.all = rowsOf(this.chain);
    this.byId = new Map(this.all.map((row) => [row.promise.id, row]));
    this.#rescale();
    this.#drawOutages();
    this.#showRows();
    this.#tellHeadline();
    tellStory(this.chain.story);
    byId("timeline-cut").hidden = !this.chain.cut;
    this.#run();
  }

  #showRows() {
    this.rows = this.#folds ? fold(this.all, this.#folds, nameOf) : this.all;
    this.virtual.items = this.rows;
    this.changed();
  }

  get begin() {
    return this.scale.begin;
  }

  get end() {
    return this.scale.end;
  }

  nameOfId = (id) => {
    const row = this.byId.get(id);
    return row ? nameOf(row.promise) : shorten(id, 24);
  };

  // ── for the tools ──

  /** Fold the calls of one function by one caller into one row, or unfold all. */
  set folded(is) {
    this.#folds = is ? new Set() : null;
    this.#showRows();
  }

  #toggle(row) {
    if (!this.#folds.delete(row.key)) this.#folds.add(row.key);
    this.#showRows();
  }

  /** Select the next of `rows`, which may be folded. */
  jump(rows) {
    if (!rows.length) return;
    const at = this.all.findIndex((row) => row.promise.id === this.#focused);
    const next = rows.find((row) => this.all.indexOf(row) > at) ?? rows[0];
    for (let tries = 0; !this.rows.includes(next) && tries < 9; tries += 1) {
      const folded = this.rows.find((row) => row.members && !row.isOpen && row.members.some((member) => isWithin(next, member, this.byId)));
      if (!folded) return;
      this.#toggle(folded);
    }
    this.#focus(next, true);
    this.pick(next, true);
  }

  rescaled() {
    this.#drawAxis();
    this.#drawOutages();
    this.virtual.draw();
    this.#moveNow();
    this.changed();
  }

  // ── the axis ──

  #rescale() {
    this.scale.begin = this.chain.root.createdAt;
    const whole = this.chain.isPending ? this.#pendingSpan() : finalSpan(this.#end() - this.begin);
    if (whole === this.scale.whole) return;
    this.#glide();
    this.scale.whole = whole;
    this.#drawAxis();
  }

  #pendingSpan() {
    const elapsed = this.now() - this.begin;
    return runningSpan(this.scale.whole, elapsed, expectedEnd(this.chain.promises.values(), this.begin, elapsed));
  }

  #end() {
    let end = this.begin;
    for (const promise of this.chain.promises.values()) end = Math.max(end, promise.settledAt ?? 0);
    return end;
  }

  /** Animate bars to their places on a new scale, but not while they grow. */
  #glide() {
    if (!this.scale.whole) return;
    this.tree.classList.add("glide");
    clearTimeout(this.gliding);
    this.gliding = setTimeout(() => this.tree.classList.remove("glide"), 350);
  }

  #drawAxis() {
    const axis = byId("axis");
    if (!this.scale.whole || !axis.clientWidth) return;
    const count = Math.max(2, Math.floor(axis.clientWidth / MARK_ROOM));
    const found = marks(this.scale.span, count, this.scale.from);
    axis.replaceChildren(...found.map((at) => this.#mark(at)));
    byId("grid").replaceChildren(...found.map((at) => placed(el("i"), this.scale.share(this.begin + at))));
  }

  #mark(at) {
    const share = this.scale.share(this.begin + at);
    const node = el("span", { class: `mark${share > 0.94 ? " last" : share < 0.04 ? " first" : ""}`, title: fullTime(this.begin + at) }, mark(at));
    return placed(node, share);
  }

  /** A band across all rows for each outage of the server. */
  #drawOutages() {
    byId("outages").replaceChildren(...this.chain.outages.flatMap(({ from, to }) => {
      const part = this.scale.part(Math.max(from, this.begin), to);
      if (!part) return [];
      const node = placed(el("span", { class: "outage" }, el("b", {}, `server away ${duration(to - from)}`)), part.left);
      node.style.width = percent(part.width);
      return [node];
    }));
  }

  // ── rows ──

  #create() {
    return el(
      "div",
      { class: "row", role: "treeitem" },
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
    attribute(element, "data-found", this.found?.has(promise.id));
    attribute(element, "aria-level", row.depth + 1);
    attribute(element, "aria-posinset", index + 1);
    attribute(element, "aria-setsize", this.rows.length);
    attribute(element, "aria-expanded", row.members ? String(row.isOpen) : null);
    attribute(element, "aria-selected", String(promise.id === this.#focused));
    attribute(element, "tabindex", promise.id === (this.#focused ?? this.chain.root.id) ? "0" : "-1");
    attribute(element, "aria-label", this.#sentence(row));
    say(element.querySelector(".row-name"), nameOf(promise));
    sayId(element.querySelector(".row-id"), row.members ? `× ${row.members.length}` : nameOf(promise) === promise.id ? "" : shorten(this.#ownPart(promise), 200));
    this.#attempt(element.querySelector(".row-attempt"), row);
    this.#guides(element.querySelector(".row-guides"), row);
    this.#outcome(element, row);
    this.#stripes(element.querySelector(".row-track"), row);
  }

  #sentence(row) {
    if (row.members) return `${nameOf(row.promise)}, ${barsOf(row, this)[0].parts.join("")}, ${row.isOpen ? "unfolded" : "folded"}`;
    const flag = flagOf(row, this.isLate);
    return `${rowSentence(row, this.now(), this.nameOfId)}${flag ? ` (${flag.words})` : ""}`;
  }

  /** The part of its id after its parent's, or at least after the root's. */
  #ownPart({ id, parent }) {
    const own = parent === null ? id : ownPart(id, parent);
    return own === id && id !== this.chain.id ? ownPart(id, this.chain.id) : own;
  }

  /** From the second attempt on, show its number beside the name, with mark and shade: stripes may be too short for it. */
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

  /** Its outcome, or what blocks it. */
  #outcome(element, row) {
    const { promise } = row;
    const node = element.querySelector(".row-result");
    const flag = flagOf(row, this.isLate);
    attribute(element, "data-flag", flag?.kind);
    attribute(node, "data-state", promise.state);
    sayParts(node.firstChild, flag ? [flag.words] : outcomeParts(row));
    attribute(node, "title", promise.state === "pending" || row.members ? null : shorten(brief(promise.value, 300), 300));
  }

  #stripes(track, row) {
    reconcile(track, barsOf(row, this), "data-key", (stripe) => stripe.key, newStripe, (node, stripe) => this.#draw(node, stripe));
  }

  #draw(node, stripe) {
    for (const [name, value] of Object.entries(stripe.attributes)) attribute(node, name, value);
    if (stripe.parts) sayParts(node.firstChild, stripe.parts);
    node.openFrom = stripe.to === null ? stripe.from : null;
    node.isMark = stripe.mark;
    this.#place(node, stripe.from, stripe.to ?? this.now());
  }

  #place(node, from, to) {
    const part = this.scale.part(from, to);
    node.hidden = part === null;
    if (!part) return;
    node.style.left = percent(part.left);
    if (!node.isMark) node.style.width = percent(part.width);
  }

  // ── while it is pending ──

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
    if (this.#pendingSpan() !== this.scale.whole) this.refresh();
    for (const node of this.tree.querySelectorAll(".stripe[data-open]")) this.#place(node, node.openFrom, this.now());
    this.#moveNow();
    say(byId("chain-duration"), duration(this.now() - this.begin));
    this.#everyNowAndThen();
    if (!this.#frame) this.#frame = nextFrame(() => this.#tick());
  }

  #moveNow() {
    const now = this.now();
    const share = this.scale.share(now);
    const move = `translateX(${percent(Math.min(this.scale.isZoomed ? 2 : 1, Math.max(-1, share)))})`;
    byId("now").style.transform = move;
    byId("now-mark").style.transform = move;
    byId("now-mark").dataset.outside = share < 0 || share > 1.01;
    say(byId("now-mark").firstElementChild, duration(now - this.begin));
  }

  /** Text need not change with every frame. */
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
    const told = away > NOTICEABLE ? { tone: "gap", text: `The server has been away for ${duration(away)}. Everything it acknowledged is kept` } : headline(this.all, this.now(), this.nameOfId, this.isAway);
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
    if (!row.members) this.pick(row, event.type !== "pointerover");
    else if (event.type === "click") this.#toggle(row);
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
    const row = this.rows[at];
    if (row?.members && ["Enter", " ", row.isOpen ? "ArrowLeft" : "ArrowRight"].includes(event.key)) {
      event.preventDefault();
      this.#toggle(row);
      return;
    }
    const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.rows.length - 1, ArrowLeft: this.#parentOf(at) };
    if (event.shiftKey || !(event.key in targets)) return;
    event.preventDefault();
    const target = this.rows[targets[event.key]];
    if (target) this.#focus(target, true);
  }

  #parentOf(at) {
    return this.rows.findIndex((row) => row.promise.id === this.rows[at]?.promise.parent);
  }
}

/** Whether `row` is `member` or below it. */
function isWithin(row, member, byId) {
  const passed = new Set();
  for (let at = row; at && !passed.has(at); at = byId.get(at.promise.parent)) {
    if (at.promise.id === member.promise.id) return true;
    passed.add(at);
  }
  return false;
}

/** The first sentence is always visible. */
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

/** For a failure the state comes before the reason, so that it is always shown. */
function outcomeParts({ promise, members }) {
  if (members) return outcomesOf(members);
  if (promise.state === "pending") return [];
  if (promise.timer && promise.state === "resolved") return ["over"];
  if (promise.state === "resolved") return [brief(promise.value, 80)];
  return promise.value ? [stateWord(promise.state), `: ${brief(promise.value, 80)}`] : [stateWord(promise.state)];
}

/** How many of `members` have the worst outcome among them. */
function outcomesOf(members) {
  const state = members.some(({ promise }) => promise.state === "rejected") ? "rejected" : "resolved";
  return [`${members.filter(({ promise }) => promise.state === state).length} ${state}`];
}

function newStripe(stripe) {
  const inside = stripe.icon ? icon(stripe.icon) : stripe.parts ? el("span", { class: "stripe-text parts" }) : null;
  return el("span", { class: "stripe" }, inside);
}
