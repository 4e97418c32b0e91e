// How a chain's timeline comes out of its detail and its events.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC, detail, events, everybody, kinds } from "./build.mjs";

const { Chain } = await import(new URL("model/chain.js", STATIC));
const { rowsOf } = await import(new URL("model/rows.js", STATIC));

const bar = { "foo": { group: "service-foo", task: { state: "suspended", version: 1 } }, "foo:1": { parent: "foo", group: "service-bar", func: "bar", task: { state: "pending", version: 0 } } };
const of = (id, more = {}) => ({ id, ...more });
const barRow = (chain, presence = everybody) => rowsOf(chain, presence).find((row) => row.promise.id === "foo:1");

function barAfter(...given) {
  return new Chain(detail(bar, events(...given)));
}

const ran = [
  [0, "promise.created", of("foo:1")],
  [0, "task.queued", of("foo:1", { version: 0, reason: "created", group: "service-bar" })],
  [10, "task.claimed", of("foo:1", { version: 1, pid: "p1" })],
];

test("a call waits for a worker, runs, and ends when its promise is settled", () => {
  const chain = barAfter(...ran);
  chain.apply({ seq: 9, at: 50, kind: "promise.settled", chain: "foo", id: "foo:1", state: "resolved", value: { text: "2" }, settled_at: 50 });
  const { segments, promise } = barRow(chain);
  assert.deepEqual(segments.map(({ kind, from, to }) => [kind, from, to]), [["waiting", 0, 10], ["running", 10, 50]]);
  assert.equal(promise.state, "resolved");
  assert.equal(promise.value.text, "2");
});

test("a suspended call says what it waits for", () => {
  const chain = barAfter(...ran, [20, "task.suspended", of("foo:1", { version: 1, pid: "p1", on: ["foo:1.1"] })]);
  assert.deepEqual(barRow(chain).segments.at(-1).on, ["foo:1.1"]);
});

test("an attempt that was lost ends in a break, and the gap lasts until the next attempt", () => {
  const chain = barAfter(
    ...ran,
    [40, "task.lost", of("foo:1", { version: 1, pid: "p1", reason: "gone" })],
    [40, "task.queued", of("foo:1", { version: 1, reason: "gone", group: "service-bar" })],
    [90, "task.claimed", of("foo:1", { version: 2, pid: "p2" })],
  );
  const { segments } = barRow(chain);
  assert.deepEqual(kinds(segments), ["waiting", "running", "gap", "running"]);
  assert.deepEqual([segments[1].broken, segments[1].attempt, segments[3].attempt], [true, 1, 2]);
  assert.deepEqual([segments[2].from, segments[2].to, segments[2].reason], [40, 90, "gone"]);
});

test("what a worker hands back in order is no break", () => {
  const chain = barAfter(...ran, [40, "task.released", of("foo:1", { version: 1, pid: "p1" })], [40, "task.queued", of("foo:1", { version: 1, reason: "released" })]);
  const { segments } = barRow(chain);
  assert.deepEqual(kinds(segments), ["waiting", "running", "waiting"]);
  assert.equal(segments[1].broken, false);
});

test("a task that nobody claims waits, and says how often it was handed out, until somebody does", () => {
  const trouble = "handed out 2 times, claimed by nobody";
  const chain = barAfter(...ran.slice(0, 2));
  const happens = (seq, kind, more) => chain.apply({ seq, at: seq, chain: "foo", kind, id: "foo:1", ...more });
  happens(20, "task.unclaimed", { version: 0, trouble });
  happens(40, "task.queued", { version: 0, reason: "retry" });
  assert.deepEqual(barRow(chain).segments.map(({ kind, trouble }) => [kind, trouble]), [["waiting", trouble]]);
  assert.equal(barRow(chain).promise.task.trouble, trouble);
  happens(60, "task.claimed", { version: 1, pid: "p1" });
  assert.equal(barRow(chain).promise.task.trouble, "");
});

test("a running attempt breaks the moment the stream of its worker breaks", () => {
  const presence = { ...everybody, away: (pid) => (pid === "p1" ? [[30, Infinity]] : []) };
  const { segments } = barRow(barAfter(...ran), presence);
  assert.deepEqual(segments.map(({ kind, from, to }) => [kind, from, to]), [["waiting", 0, 10], ["running", 10, 30], ["gap", 30, null]]);
  assert.equal(segments[1].broken, true);
});

test("the gap that the stream's break began is the same one that the lost lease goes on with", () => {
  const chain = barAfter(...ran, [60, "task.lost", of("foo:1", { version: 1, pid: "p1", reason: "gone" })]);
  const presence = { away: () => [[30, Infinity]], absent: () => [[30, Infinity]] };
  const gaps = barRow(chain, presence).segments.filter((segment) => segment.kind === "gap");
  assert.deepEqual(gaps.map(({ from, to, reason }) => [from, to, reason]), [[30, null, "gone"]]);
});

test("a suspended call shows a gap while nobody of its group is there, and goes on being suspended", () => {
  const chain = barAfter(...ran, [20, "task.suspended", of("foo:1", { version: 1, pid: "p1", on: [] })]);
  const presence = { ...everybody, absent: (group) => (group === "service-bar" ? [[40, 70]] : []) };
  const { segments } = barRow(chain, presence);
  assert.deepEqual(segments.slice(2).map(({ kind, from, to }) => [kind, from, to]), [["suspended", 20, 40], ["gap", 40, 70], ["suspended", 70, null]]);
  assert.deepEqual([segments[2].broken, segments[3].reason], [true, "absent"]);
});

test("attempts older than the events are told by the database, and marked so", () => {
  const late = events([500, "task.claimed", of("foo:1", { version: 3, pid: "p3" })]);
  const { segments } = barRow(new Chain(detail(bar, late)));
  assert.deepEqual(segments.map(({ kind, known, attempt }) => [kind, known, attempt]), [["unknown", false, 2], ["running", true, 3]]);
});

test("without any event the task's record says what goes on", () => {
  const promises = { ...bar, "foo:1": { ...bar["foo:1"], task: { state: "acquired", version: 4, pid: "p4" } } };
  const [segment] = barRow(new Chain(detail(promises))).segments;
  assert.deepEqual([segment.kind, segment.attempt, segment.pid, segment.known], ["running", 4, "p4", false]);
});

test("a step runs and breaks with the call that it is a part of", () => {
  const promises = { ...bar, "foo:1.2": { parent: "foo:1", created_at: 20, tags: { "resonate:scope": "local" } } };
  const chain = new Chain(detail(promises, events(...ran, [40, "task.lost", of("foo:1", { version: 1, pid: "p1", reason: "lease" })], [90, "task.claimed", of("foo:1", { version: 2, pid: "p2" })])));
  const step = rowsOf(chain, everybody).find((row) => row.promise.id === "foo:1.2");
  assert.deepEqual(step.segments.map(({ kind, from, to, broken }) => [kind, from, to, broken]), [["running", 20, 40, true], ["gap", 40, 90, false], ["running", 90, null, false]]);
  assert.equal(step.group, "service-bar");
});

test("events that the detail had already are not taken in twice", () => {
  const chain = barAfter(...ran);
  assert.equal(chain.apply({ seq: 2, at: 0, kind: "task.queued", chain: "foo", id: "foo:1", version: 0, reason: "created" }), false);
  assert.equal(barRow(chain).segments.length, 2);
});

test("a promise that comes by an event stands below its parent", () => {
  const chain = barAfter(...ran);
  chain.apply({ seq: 10, at: 30, kind: "promise.created", chain: "foo", id: "foo:1.1", parent: "foo:1", func: "baz", group: "service-baz", created_at: 30, timeout_at: 99 });
  assert.deepEqual(rowsOf(chain, everybody).map((row) => [row.promise.id, row.depth]), [["foo", 0], ["foo:1", 1], ["foo:1.1", 2]]);
});

test("parents that go round in circles, or are missing, leave every promise a row", () => {
  const chain = new Chain(detail({ foo: {}, a: { parent: "b" }, b: { parent: "a" }, c: { parent: "nowhere" } }));
  assert.deepEqual(rowsOf(chain, everybody).map((row) => row.promise.id).sort(), ["a", "b", "c", "foo"]);
});

test("siblings stand by age, then by number", () => {
  const chain = new Chain(detail({ foo: {}, "foo:10": { parent: "foo" }, "foo:9": { parent: "foo" }, "foo:11": { parent: "foo", created_at: -1 } }));
  assert.deepEqual(rowsOf(chain, everybody).map((row) => row.promise.id), ["foo", "foo:11", "foo:9", "foo:10"]);
});

test("what the page has seen outlives the server's memory", () => {
  const seen = barAfter(...ran, [20, "task.suspended", of("foo:1", { version: 1, pid: "p1", on: [] })]);
  const restarted = new Chain(detail(bar, events([500, "task.queued", of("foo:1", { version: 1, reason: "resumed" })], [510, "task.claimed", of("foo:1", { version: 2, pid: "p2" })])));
  restarted.graft(seen);
  assert.deepEqual(barRow(restarted).segments.map(({ kind, to }) => [kind, to]), [["waiting", 10], ["running", 20], ["suspended", 500], ["waiting", 510], ["running", null]]);
});

test("a phase that lasts over the server's restart is one", () => {
  const promises = { ...bar, "foo:1": { ...bar["foo:1"], task: { state: "acquired", version: 1, pid: "p1" } } };
  const restarted = new Chain(detail(promises));
  restarted.graft(barAfter(...ran));
  assert.deepEqual(barRow(restarted).segments.map(({ kind, from, known }) => [kind, from, known]), [["waiting", 0, true], ["running", 10, true]]);
});
