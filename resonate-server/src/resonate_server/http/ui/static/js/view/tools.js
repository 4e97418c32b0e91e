// Tools for long chains: find a call, jump to failures, fold, compact rows, zoom.

import { flagOf } from "../text/phases.js";
import { nameOf, stateWord } from "../text/sentences.js";
import { attribute, byId, say } from "./dom.js";

const STEP = 1.6;

export class Tools {
  constructor(timeline) {
    this.timeline = timeline;
    byId("find").addEventListener("input", () => this.#find());
    byId("find").addEventListener("keydown", (event) => event.key === "Enter" && timeline.jump(this.#matches));
    byId("faults").addEventListener("click", () => timeline.jump(this.#faults));
    wireSwitch("fold", (is) => (timeline.folded = is));
    wireSwitch("dense", (is) => {
      attribute(byId("pane-timeline"), "data-dense", is);
      timeline.virtual.measure();
    });
    byId("zoom-in").addEventListener("click", () => this.#zoom(1 / STEP));
    byId("zoom-out").addEventListener("click", () => this.#zoom(STEP));
    byId("zoom-all").addEventListener("click", () => this.#all());
    timeline.tree.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    timeline.tree.addEventListener("pointerdown", (event) => this.#grab(event));
    timeline.tree.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Update the tools after rows or scale have changed. */
  update() {
    const { all, scale } = this.timeline;
    this.#faults = faultsOf(all, this.timeline.isLate);
    byId("faults").disabled = this.#faults.length === 0;
    say(byId("faults"), this.#faults.length ? `Next problem (${this.#faults.length})` : "No problems");
    byId("zoom-out").disabled = byId("zoom-all").disabled = !scale.isZoomed;
    if (byId("find").value) this.#find();
  }

  #faults = [];
  #matches = [];

  #find() {
    const text = byId("find").value.trim().toLowerCase();
    this.#matches = text ? this.timeline.all.filter((row) => isMatch(row, text)) : [];
    this.timeline.found = new Set(this.#matches.map((row) => row.promise.id));
    this.timeline.virtual.draw();
    say(byId("find-count"), text ? `${this.#matches.length} of ${this.timeline.all.length}` : "");
  }

  #zoom(factor, share) {
    this.timeline.scale.zoom(factor, share);
    this.timeline.rescaled();
  }

  #pan(share) {
    this.timeline.scale.pan(share);
    this.timeline.rescaled();
  }

  #all() {
    this.timeline.scale.seeAll();
    this.timeline.rescaled();
  }

  /** Zoom with Ctrl, as on a page or a map; pan with Shift or sideways. */
  #wheel(event) {
    const track = byId("axis").getBoundingClientRect();
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey) this.#zoom(event.deltaY > 0 ? STEP : 1 / STEP, (event.clientX - track.left) / track.width);
    else if (this.timeline.scale.isZoomed && Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) this.#pan(sideways / track.width);
    else return;
    event.preventDefault();
  }

  #grab(event) {
    if (!this.timeline.scale.isZoomed || event.button !== 0 || !event.target.closest(".row-track, .axis-row")) return;
    const { width } = byId("axis").getBoundingClientRect();
    let at = event.clientX;
    const move = ({ clientX }) => {
      this.#pan((at - clientX) / width);
      at = clientX;
    };
    addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => removeEventListener("pointermove", move), { once: true });
  }

  #key(event) {
    const acts = { "+": () => this.#zoom(1 / STEP), "=": () => this.#zoom(1 / STEP), "-": () => this.#zoom(STEP), 0: () => this.#all() };
    const pans = { ArrowLeft: -0.2, ArrowRight: 0.2 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in acts) acts[event.key]();
    else if (event.shiftKey && event.key in pans) this.#pan(pans[event.key]);
    else return;
    event.preventDefault();
  }
}

function wireSwitch(id, set) {
  byId(id).addEventListener("click", () => {
    const is = byId(id).getAttribute("aria-pressed") !== "true";
    attribute(byId(id), "aria-pressed", String(is));
    set(is);
  });
}

const isMatch = ({ promise, group }, text) => [promise.id, nameOf(promise), group ?? "", stateWord(promise.state)].some((each) => each.toLowerCase().includes(text));

/** Rows that are stuck, and rows that failed by themselves, not because of a row below them or by cancellation. */
function faultsOf(rows, isLate) {
  const isFailed = ({ promise }) => promise.state !== "pending" && promise.state !== "resolved";
  const failedBelow = new Set(rows.filter(isFailed).map((row) => row.promise.parent));
  const isStuck = (row) => ![undefined, "person"].includes(flagOf(row, isLate)?.kind);
  return rows.filter((row) => (isFailed(row) ? row.promise.state !== "rejected_canceled" && !failedBelow.has(row.promise.id) : isStuck(row)));
}
