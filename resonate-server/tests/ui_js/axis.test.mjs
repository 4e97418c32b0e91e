// The axis of a timeline: it changes as rarely as possible.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC } from "./build.mjs";

const { Scale, expectedEnd, finalSpan, marks, runningSpan } = await import(new URL("model/axis.js", STATIC));

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

function scaleOf(whole) {
  const scale = new Scale();
  return Object.assign(scale, { begin: 1000, whole });
}

test("all of a chain is seen until one looks closer", () => {
  const scale = scaleOf(10_000);
  assert.deepEqual([scale.share(1000), scale.share(6000), scale.share(11_000), scale.isZoomed], [0, 0.5, 1, false]);
});

test("what one points at stays in its place", () => {
  const scale = scaleOf(10_000);
  scale.zoom(0.5, 0.2);
  assert.deepEqual([scale.from, scale.span, scale.share(1000 + 2000)], [1000, 5000, 0.2]);
});

test("one moves no farther than the chain goes, and sees no more than all of it", () => {
  const scale = scaleOf(10_000);
  scale.zoom(0.1, 0);
  scale.pan(-5);
  assert.equal(scale.from, 0);
  scale.pan(100);
  assert.deepEqual([scale.from, scale.end], [9000, 11_000]);
  scale.zoom(100);
  assert.deepEqual([scale.isZoomed, scale.from], [false, 0]);
});

test("nobody looks closer than some milliseconds", () => {
  const scale = scaleOf(10_000);
  for (let n = 0; n < 50; n += 1) scale.zoom(0.5);
  assert.ok(scale.span >= 10);
});

test("of what lasts longer than what is seen, the part in sight is drawn, and nothing of what is out of it", () => {
  const scale = scaleOf(10_000);
  scale.zoom(0.1, 0.5);
  assert.deepEqual(scale.part(1000, 11_000), { left: 0, width: 1 });
  assert.equal(scale.part(1000, 2000), null);
  assert.equal(scale.part(9000, 11_000), null);
});

test("the axis is told from where one looks", () => {
  assert.deepEqual(marks(1000, 5, 4600), [4600, 4800, 5000, 5200, 5400, 5600]);
});
