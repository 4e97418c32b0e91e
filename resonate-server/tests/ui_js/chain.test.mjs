// How a chain's rows are built from the server's data, and many calls of one function below one caller become one row.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC, detail } from "./build.mjs";

const { Chain, fold, originOf, rowsOf } = await import(new URL("model/chain.js", STATIC));

test("lines lead from a row to its ancestors, and a step is run by its caller's group", () => {
  const promises = { foo: {}, "foo:1": { parent: "foo", role: "call", group: "service-bar", follows: true }, "foo:1.1": { parent: "foo:1", role: "step" }, "foo:2": { parent: "foo" } };
  const rows = rowsOf(new Chain(detail(promises)));
  assert.deepEqual(rows.map((row) => row.more), [[], [true], [true, false], [false]]);
  assert.deepEqual(rows.map((row) => row.group), [null, "service-bar", "service-bar", null]);
});

test("its own events touch a chain, and what happens to workers or was missed, but not that one was heard of", () => {
  const chain = new Chain(detail({ foo: {}, "foo:1": {} }));
  const touches = (event) => chain.isTouchedBy(event);
  assert.ok(touches({ kind: "promise.created", chain: "foo", id: "foo:2" }));
  assert.ok(touches({ kind: "task.sent", chain: null, id: "foo:1" }));
  assert.ok(touches({ kind: "worker.left", group: "g", pid: "p" }));
  assert.ok(touches({ kind: "server.missed" }));
  assert.ok(!touches({ kind: "worker.heard", group: "g", pid: "p" }));
  assert.ok(!touches({ kind: "promise.created", chain: "other", id: "other" }));
});

test("a failure comes from where it was first told, however deep that is", () => {
  const failed = (at, text, more = {}) => ({ state: "rejected", settled_at: at, value: { text, cut: false }, ...more });
  const promises = { foo: failed(30, "no"), "foo:1": failed(20, "no", { parent: "foo" }), "foo:1.1": failed(10, "no", { parent: "foo:1" }), "foo:2": failed(5, "other", { parent: "foo" }) };
  const rows = rowsOf(new Chain(detail(promises)));
  const origin = (index) => originOf(rows[index], rows).promise.id;
  assert.deepEqual([0, 1, 2, 3].map(origin), ["foo:1.1", "foo:1.1", "foo:1.1", "foo:2"]);
});

const call = (func, more = {}) => ({ parent: "foo", role: "call", func, group: `service-${func}`, ...more });
const calls = (func, count, more) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`foo.${func}${n}`, call(func, more?.(n))]));
const rows = (promises) => rowsOf(new Chain(detail({ foo: {}, ...promises })));
const nameOf = (promise) => promise.func ?? promise.id;
const shown = (all, open = new Set()) => fold(all, open, nameOf).map((row) => (row.members ? `${row.members.length} × ${nameOf(row.promise)}` : row.promise.id));

test("calls of one service stand in one row, others by themselves", () => {
  assert.deepEqual(shown(rows({ ...calls("pay", 5), ...calls("ship", 2) })), ["foo", "5 × pay", "foo.ship0", "foo.ship1"]);
});

test("one function of two services is two rows", () => {
  const promises = calls("pay", 8, (n) => ({ group: `service-${n % 2}` }));
  assert.deepEqual(shown(rows(promises)), ["foo", "4 × pay", "4 × pay"]);
});

test("what stands below a folded call is folded with it", () => {
  const pay = calls("pay", 3);
  const promises = { "foo.pay": call("pay"), "foo.pay.1": { parent: "foo.pay" }, ...pay, "foo.ship": call("ship") };
  assert.deepEqual(shown(rows(promises)), ["foo", "4 × pay", "foo.ship"]);
});

test("one that is opened shows its calls below it, and closes again", () => {
  const all = rows(calls("pay", 4));
  const [, closed] = fold(all, new Set(), nameOf);
  assert.deepEqual(shown(all, new Set([closed.key])), ["foo", "4 × pay", "foo.pay0", "foo.pay1", "foo.pay2", "foo.pay3"]);
  assert.deepEqual([closed.isOpen, fold(all, new Set([closed.key]), nameOf)[1].isOpen], [false, true]);
});

test("it lasts from its first call to its last, and is as bad as the worst", () => {
  const promises = calls("pay", 4, (n) => ({ created_at: n, settled_at: 10 + n, state: n === 2 ? "rejected" : "resolved" }));
  const { promise } = fold(rows(promises), new Set(), nameOf)[1];
  assert.deepEqual([promise.createdAt, promise.settledAt, promise.state], [0, 13, "rejected"]);
});

test("it is pending as long as one of its calls is", () => {
  const promises = calls("pay", 4, (n) => (n ? { settled_at: 9, state: "resolved" } : {}));
  const { promise } = fold(rows(promises), new Set(), nameOf)[1];
  assert.deepEqual([promise.settledAt, promise.state], [null, "pending"]);
});
