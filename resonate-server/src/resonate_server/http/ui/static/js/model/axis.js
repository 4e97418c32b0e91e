// The time axis of a chain. Pure; in milliseconds since the chain began.

const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500,
  ...[1, 2, 5, 10, 15, 30].map((n) => n * 1000),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * 60_000),
  ...[1, 2, 6, 12].map((n) => n * 3_600_000),
  ...[1, 2, 7, 14, 30, 90, 365].map((n) => n * 86_400_000),
];

const SHORTEST = 2000;
const ROOM = 1.3;
const TOO_MUCH = 3;

/** Distance between marks, so that about `count` of them fit into `span`. */
export function stepFor(span, count) {
  return STEPS.find((step) => span / step <= count) ?? STEPS[STEPS.length - 1];
}

/** Times between `from` and `from + span` to label on the axis. */
export function marks(span, count, from = 0) {
  const step = stepFor(span, count);
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= from + span && found.length < 50; at += step) found.push(at);
  return found;
}

/** The shortest span that one can zoom in to. */
const CLOSEST = 10;

/** Maps times to positions in the visible part of a chain's span. */
export class Scale {
  begin = 0;
  whole = 0;
  #zoom = null;

  get isZoomed() {
    return this.#zoom !== null;
  }

  /** Where the visible part begins, in ms since the chain began. */
  get from() {
    return this.#zoom?.from ?? 0;
  }

  get span() {
    return this.#zoom?.span ?? this.whole;
  }

  get end() {
    return this.begin + this.from + this.span;
  }

  /** The position of the time `at`, between 0 and 1 if it is visible. */
  share(at) {
    return (at - this.begin - this.from) / this.span;
  }

  /** The visible part of the time between `from` and `to`: {left, width}, or null. */
  part(from, to) {
    const [left, right] = [this.share(from), this.share(to)];
    if (right < 0 || left > 1) return null;
    const seen = Math.max(0, left);
    return { left: seen, width: Math.max(0, Math.min(1, right) - seen) };
  }

  /** Show `factor` times as much; the point at `share` stays where it is. */
  zoom(factor, share = 0.5) {
    const span = Math.max(CLOSEST, this.span * factor);
    this.#see(this.from + share * (this.span - span), span);
  }

  /** Move by `share` of the visible span. */
  pan(share) {
    if (this.#zoom) this.#see(this.from + share * this.span, this.span);
  }

  seeAll() {
    this.#zoom = null;
  }

  #see(from, span) {
    this.#zoom = span >= this.whole ? null : { from: Math.min(Math.max(0, from), this.whole - span), span };
  }
}

/** The span of a finished chain: all of it and a small margin. */
export const finalSpan = (length) => Math.max(length, 4) * 1.04;

/**
 * The span of a running chain. It is constant until the present reaches its end, then grows by a large step: an axis that
 * moved with every frame would be unreadable.
 */
export function runningSpan(current, elapsed, expected) {
  const needed = Math.max(SHORTEST, elapsed * 1.02, expected * 1.04);
  if (current >= needed && current <= needed * TOO_MUCH) return current;
  const wanted = Math.max(needed, elapsed * ROOM);
  const step = stepFor(wanted, 8);
  return Math.ceil(wanted / step) * step;
}

/** When a chain will end, judging by its timers. Those far in the future are ignored: they would squash the rest. */
export function expectedEnd(promises, begin, elapsed) {
  const horizon = Math.max(60_000, elapsed * 3);
  let end = 0;
  for (const promise of promises) {
    const due = promise.timer && promise.state === "pending" ? promise.timeoutAt - begin : 0;
    if (due <= horizon) end = Math.max(end, due);
  }
  return end;
}
