// Who is there, and when nobody was.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC } from "./build.mjs";

const { GONE_SHOWN, Roster } = await import(new URL("model/roster.js", STATIC));

const worker = (pid, more = {}) => ({ pid, group: "service-bar", since: 100, heard: 100, held: 0, state: "connected", gone_at: null, ...more });

function rosterOf(...workers) {
  const roster = new Roster();
  roster.hello({ at: 200, resumed: false, groups: [{ name: "service-bar", waiting: 0, workers }] });
  return roster;
}

const event = (kind, pid, at, more = {}) => ({ kind, pid, at, group: "service-bar", ...more });
const only = (roster, now = 1000) => roster.shown(now)[0].workers[0];

test("while its last worker is away, nobody of the group is there", () => {
  const roster = rosterOf(worker("p1"));
  roster.apply(event("worker.left", "p1", 300));
  assert.deepEqual(roster.absent("service-bar"), [[300, Infinity]]);
  roster.apply(event("worker.connected", "p2", 500));
  assert.deepEqual(roster.absent("service-bar"), [[300, 500]]);
});

test("with another worker there, the group is not deserted", () => {
  const roster = rosterOf(worker("p1"), worker("p2"));
  roster.apply(event("worker.left", "p1", 300));
  assert.deepEqual(roster.absent("service-bar"), []);
  assert.deepEqual(roster.away("p1"), [[300, Infinity]]);
});

test("a group that never had a worker is deserted for as long as one has looked", () => {
  assert.deepEqual(rosterOf().absent("service-bar"), [[200, Infinity]]);
});

test("a worker that was gone at the hello was away since then", () => {
  const roster = rosterOf(worker("p1", { state: "gone", gone_at: 150 }), worker("p2", { since: 180 }));
  assert.deepEqual(roster.absent("service-bar"), [[150, 180]]);
});

test("a stream that the server ended as planned is no absence", () => {
  const roster = rosterOf(worker("p1"));
  roster.apply(event("worker.left", "p1", 300, { planned: true }));
  assert.deepEqual(roster.away("p1"), []);
  assert.equal(only(roster).state, "connected");
});

test("a worker that left is silent, then gone, and leaves the list after a while", () => {
  const roster = rosterOf(worker("p1"));
  roster.apply(event("worker.left", "p1", 300));
  assert.equal(only(roster).state, "silent");
  roster.apply(event("worker.gone", "p1", 3300));
  assert.equal(only(roster).state, "gone");
  assert.equal(roster.shown(300 + GONE_SHOWN + 1)[0].workers.length, 0);
});

test("a lease that lapses afterwards does not make a worker that is gone merely silent", () => {
  const roster = rosterOf(worker("p1"));
  roster.apply(event("worker.gone", "p1", 300));
  roster.apply(event("worker.silent", "p1", 301));
  assert.equal(only(roster).state, "gone");
});

test("tasks held are counted from claim to end, whatever ends them", () => {
  const roster = rosterOf(worker("p1", { held: 1 }));
  const task = (kind, id, pid) => roster.apply({ kind, id, pid, at: 300, chain: "c" });
  task("task.claimed", "a", "p1");
  task("task.claimed", "b", "p1");
  assert.equal(only(roster).held, 3);
  task("task.suspended", "a", "p1");
  task("promise.settled", "b");
  assert.equal(only(roster).held, 1);
});

test("what must not be told is not counted, either", () => {
  const roster = rosterOf(worker("p1", { held: null }));
  roster.apply({ kind: "task.claimed", id: "a", pid: "p1", at: 300 });
  assert.equal(only(roster).held, null);
});

const waiting = (roster) => roster.shown(1000)[0].waiting;

test("what waits for a group is counted, also if nobody of it was ever seen", () => {
  const roster = new Roster();
  roster.hello({ at: 200, resumed: false, groups: [] });
  roster.apply({ kind: "task.queued", id: "a", group: "service-bar", at: 300 });
  roster.apply({ kind: "task.queued", id: "b", group: "service-bar", at: 300 });
  roster.apply({ kind: "task.queued", id: "b", group: "service-bar", at: 301, reason: "retry" });
  assert.equal(waiting(roster), 2);
  roster.apply({ kind: "task.claimed", id: "a", group: "service-bar", pid: "p1", at: 400 });
  roster.apply({ kind: "promise.settled", id: "b", at: 400 });
  assert.equal(waiting(roster), 0);
});

test("a task that its creator claims at once never waited", () => {
  const roster = rosterOf(worker("p1"));
  roster.apply({ kind: "task.queued", id: "a", group: "service-bar", at: 300 });
  roster.apply({ kind: "promise.created", id: "b", at: 300 });
  roster.apply({ kind: "task.claimed", id: "b", group: "service-bar", pid: "p1", at: 300 });
  assert.equal(waiting(roster), 1);
});
