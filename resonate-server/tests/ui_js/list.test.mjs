// The list of chains: its pages, and which events change it. And the workers shown: those that the server reported last.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC } from "./build.mjs";

const { ChainList } = await import(new URL("model/list.js", STATIC));
const { GONE_SHOWN, Roster } = await import(new URL("model/roster.js", STATIC));

const record = (id, at, more = {}) => ({ id, func: "foo", group: "service-foo", state: "pending", created_at: at, settled_at: null, ...more });
const created = (id, at, more = {}) => ({ kind: "promise.created", id, chain: id, at, created_at: at, func: "foo", ...more });
const settled = (id, at, more = {}) => ({ kind: "promise.settled", id, chain: id, at, created_at: 1, settled_at: at, state: "resolved", ...more });
const ids = (list) => list.items.map((item) => item.id);

function listOf(...records) {
  const list = new ChainList();
  list.page({ chains: records, next: null }, true);
  return list;
}

test("a chain's end changes its row", () => {
  const list = listOf(record("a", 1));
  list.apply(settled("a", 9));
  assert.deepEqual([list.items[0].state, list.items[0].settledAt], ["resolved", 9]);
});

test("the list is to be read again when a chain begins or ends, and not for what happens within one", () => {
  const outdatedBy = (event) => {
    const list = listOf(record("a", 1));
    return [list.apply(event), list.isOutdated];
  };
  for (const event of [created("b", 2), settled("a", 9)]) assert.deepEqual(outdatedBy(event), [true, true]);
  for (const event of [created("a:1", 2, { chain: "a" }), { kind: "task.claimed", id: "a", chain: "a" }, { kind: "worker.gone" }]) assert.deepEqual(outdatedBy(event), [false, false]);
});

test("a second page goes on where the first one ends, and nothing stands there twice", () => {
  const list = listOf(record("b", 2), record("a", 1));
  list.page({ chains: [record("a", 1), record("z", 0)], next: null }, false);
  assert.deepEqual(ids(list), ["b", "a", "z"]);
});

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
