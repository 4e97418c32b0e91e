// The workers shown: those that the server reported last.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC } from "./build.mjs";

const { GONE_SHOWN, Roster } = await import(new URL("model/roster.js", STATIC));

const roster = new Roster();
const there = { pid: "p1", group: "service-bar", state: "connected", gone_at: null };
const gone = { pid: "p2", group: "service-bar", state: "gone", gone_at: 1000 };
roster.heard([{ name: "service-bar", waiting: 2, workers: [there, gone] }]);

const shown = (now) => roster.shown(now)[0].workers.map((worker) => worker.pid);

test("a worker that is gone leaves the list after a while", () => {
  assert.deepEqual(shown(1000 + GONE_SHOWN), ["p1", "p2"]);
  assert.deepEqual(shown(1001 + GONE_SHOWN), ["p1"]);
});

test("whether a worker is gone is known", () => {
  assert.deepEqual([there, gone, { group: "other", pid: "p2" }].map((worker) => roster.isGone(worker)), [false, true, false]);
});

test("a worker that is not connected is away, gone or not; of one that is unknown that is not said", () => {
  const silent = { ...there, pid: "p3", state: "silent" };
  roster.heard([{ name: "service-bar", waiting: 2, workers: [there, gone, silent] }]);
  assert.deepEqual([there, gone, silent, { group: "other", pid: "p2" }].map((worker) => roster.isAway(worker)), [false, true, true, false]);
});

test("a worker is late if it was not heard of for more than half of its lease, by what the server told last", () => {
  const late = (heard, at, ttl, more = {}) => {
    roster.heard([{ name: "service-bar", waiting: 0, workers: [{ ...there, heard, ...more }] }], at);
    return roster.isLate({ group: "service-bar", pid: "p1" }, ttl);
  };
  assert.deepEqual([late(0, 5000, 10_000), late(0, 5001, 10_000), late(0, 5001, 60_000), late(0, 9000, null)], [false, true, false, false]);
  assert.equal(late(0, 9000, 10_000, { state: "gone" }), false);
  assert.equal(roster.isLate({ group: "service-bar", pid: "unknown" }, 10_000), false);
});
