// How a chain's rows are built from the server's data.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC, detail } from "./build.mjs";

const { Chain, originOf, rowsOf } = await import(new URL("model/chain.js", STATIC));

const ids = (promises) => rowsOf(new Chain(detail(promises))).map((row) => row.promise.id);

test("a promise stands below its parent, and a step is run by its caller's group", () => {
  const promises = { foo: {}, "foo:1": { parent: "foo", role: "call", group: "service-bar" }, "foo:2": { parent: "foo" }, "foo:1.1": { parent: "foo:1", role: "step" } };
  const rows = rowsOf(new Chain(detail(promises)));
  assert.deepEqual(rows.map((row) => [row.promise.id, row.depth]), [["foo", 0], ["foo:1", 1], ["foo:1.1", 2], ["foo:2", 1]]);
  assert.equal(rows[2].group, "service-bar");
});

test("parents that go round in circles, or are missing, leave every promise a row", () => {
  assert.deepEqual(ids({ foo: {}, a: { parent: "b" }, b: { parent: "a" }, c: { parent: "nowhere" } }).sort(), ["a", "b", "c", "foo"]);
});

test("a deep tree takes no longer than a wide one", { timeout: 20_000 }, () => {
  const deep = Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [`p${n}`, n ? { parent: `p${n - 1}` } : {}]).reverse());
  const rows = rowsOf(Object.assign(new Chain(detail(deep)), { id: "p0" }));
  assert.deepEqual([rows.length, rows.at(-1).depth], [100_000, 99_999]);
});

test("siblings stand by age, then by number", () => {
  assert.deepEqual(ids({ foo: {}, "foo:10": { parent: "foo" }, "foo:9": { parent: "foo" }, "foo:11": { parent: "foo", created_at: -1 } }), ["foo", "foo:11", "foo:9", "foo:10"]);
});

test("its own events touch a chain, and what happens to workers, but not that one was heard of", () => {
  const chain = new Chain(detail({ foo: {}, "foo:1": {} }));
  const touches = (event) => chain.isTouchedBy(event);
  assert.ok(touches({ kind: "promise.created", chain: "foo", id: "foo:2" }));
  assert.ok(touches({ kind: "task.sent", chain: null, id: "foo:1" }));
  assert.ok(touches({ kind: "worker.left", group: "g", pid: "p" }));
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
