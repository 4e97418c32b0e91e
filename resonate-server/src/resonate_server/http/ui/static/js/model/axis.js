// The time axis of a chain. Pure; milliseconds since the chain's begin.

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

/** Distance of the marks, so that about `count` of them fit into `span`. */
export function stepFor(span, count) {
  return STEPS.find((step) => span / step <= count) ?? STEPS[STEPS.length - 1];
}

export function marks(span, count) {
  const step = stepFor(span, count);
  const found = [];
  for (let at = 0; at <= span && found.length < 50; at += step) found.push(at);
  return found;
}

/** The span of a chain that is over: all of it, and a little air. */
export const finalSpan = (length) => Math.max(length, 4) * 1.04;

/**
 * The span while it runs. It stays as it is until now reaches its end, then takes a good step: an axis that moved with
 * every frame could not be read.
 */
export function runningSpan(current, elapsed, expected) {
  const needed = Math.max(SHORTEST, elapsed * 1.02, expected * 1.04);
  if (current >= needed && current <= needed * TOO_MUCH) return current;
  const wanted = Math.max(needed, elapsed * ROOM);
  const step = stepFor(wanted, 8);
  return Math.ceil(wanted / step) * step;
}

/** When a chain will be over as far as its timers tell; timers far away are left out, they would flatten the rest. */
export function expectedEnd(promises, begin, elapsed) {
  const horizon = Math.max(60_000, elapsed * 3);
  let end = 0;
  for (const promise of promises) {
    const due = promise.timer && promise.state === "pending" ? promise.timeoutAt - begin : 0;
    if (due <= horizon) end = Math.max(end, due);
  }
  return end;
}
