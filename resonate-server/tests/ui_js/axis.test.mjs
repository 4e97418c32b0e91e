// The axis of a timeline: it stands still as long as it can.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC } from "./build.mjs";

const { expectedEnd, finalSpan, marks, runningSpan } = await import(new URL("model/axis.js", STATIC));

test("the axis does not change while now is within it", () => {
  const span = runningSpan(0, 100, 0);
  for (let elapsed = 200; elapsed < span * 0.9; elapsed += 100) assert.equal(runningSpan(span, elapsed, 0), span);
});

test("it takes a good step when now reaches its end", () => {
  const span = runningSpan(0, 100, 0);
  assert.ok(runningSpan(span, span, 0) >= span * 1.25);
});

test("it reaches to where a sleep will end, but not to one far away", () => {
  const sleep = (timeoutAt) => [{ timer: true, state: "pending", timeoutAt }];
  assert.ok(runningSpan(0, 100, expectedEnd(sleep(10_000), 0, 100)) >= 10_000);
  assert.equal(expectedEnd(sleep(3_600_000), 0, 100), 0);
});

test("marks are round, few, and within the span", () => {
  assert.deepEqual(marks(11_000, 6), [0, 2000, 4000, 6000, 8000, 10_000]);
  assert.ok(marks(1e15, 6).length <= 50);
});

test("a chain that took no time has a span", () => {
  assert.ok(finalSpan(0) > 0);
});
