// The text of a phase, its most important parts first; and what is wrong with a row.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC, detail, phase } from "./build.mjs";

const { flagOf, markOf, phaseParts, phaseText } = await import(new URL("text/phases.js", STATIC));
const { Chain, rowsOf } = await import(new URL("model/chain.js", STATIC));

const GROUP = "service-bar";
const rowWith = (last, more = {}) => rowsOf(new Chain(detail({ bar: { role: "call", func: "bar", group: GROUP, phases: [last], ...more } })))[0];
const parts = (last, more, now) => phaseParts(last, rowWith(last, more), String, now);
const run = (reason, more = {}) => phase("running", 10, null, { attempt: 2, pid: "9c1e0000", reason, ...more });

test("an attempt that goes on is told from one that does it again, with the reason", () => {
  assert.deepEqual(parts(run("resumed")), ["attempt 2", " · 9c1e", ", continues after waiting"]);
  assert.deepEqual(parts(run("gone")), ["again", ", attempt 2", " · 9c1e", ", as its worker was gone"]);
  assert.deepEqual(parts(run("lease")).at(-1), ", as its lease had ended");
  assert.deepEqual(parts(run("released", { why: "ValueError: no" })).at(-1), ", as it was given back: ValueError: no");
  assert.deepEqual(["", "resumed", "continued", "gone", "lease", "released"].map((reason) => markOf(run(reason))), [null, "on", "on", "again", "again", "again"]);
});

test("a step that runs again says so", () => {
  assert.equal(phaseText(run("gone", { step: true }), rowWith(run("gone")), String), "at work, again from its beginning");
});

const paused = (until, why = "") => ({ task: { state: "pending", attempt: 1, pid: null, retry_at: until, trouble: "given back: no", ttl: null, unclaimed: 0, why } });
const waiting = phase("waiting", 10, null, { attempt: 1, reason: "released", trouble: "given back: no" });

test("the pause until the next attempt counts down, right behind what is wrong", () => {
  assert.deepEqual(parts(waiting, paused(5000), 1001), ["given back", ", next attempt in 4 s", ": no"]);
  assert.deepEqual(parts(waiting, paused(5000), 5000)[1], ", next attempt now");
  assert.deepEqual(parts(waiting, paused(5000)), ["given back", ": no"]);
  assert.deepEqual(parts({ ...waiting, to: 20 }, paused(5000), 1000), ["given back", ": no"]);
});

test("who is gone stands before everything else that is known of a gap", () => {
  const gap = (reason) => parts(phase("gap", 5, null, { reason, pid: "9c1e0000" }));
  assert.deepEqual(gap("absent"), ["no bar", " connected", ", nothing is lost"]);
  assert.deepEqual(gap("gone"), ["bar gone", " (9c1e)", ", waiting for service-bar"]);
  assert.deepEqual(gap("lease")[0], "lease ended");
});

const flag = (last, more, isLate = () => false) => flagOf(rowWith(last, more), isLate)?.kind ?? null;
const task = (more) => ({ task: { state: "pending", attempt: 1, pid: null, retry_at: null, trouble: "", ttl: null, unclaimed: 0, why: "", ...more } });

test("what keeps a call from going on has a flag", () => {
  assert.equal(flag(phase("waiting", 0, null), task({ unclaimed: 2, trouble: "handed out 2 times, claimed by nobody" })), "unclaimed");
  assert.equal(flag(waiting, task({ trouble: "given back: x", why: "the code of bar changed while bar was under way: step 1" })), "misfit");
  assert.equal(flag(waiting, task({ trouble: "given back: x", why: "x" })), "returned");
  assert.equal(flag(phase("gap", 0, null, { reason: "gone" }), task({})), "gap");
  assert.equal(flag(phase("halted", 0, null), task({})), "halted");
  assert.equal(flag(phase("waiting", 0, null, { reason: "outside" }), { role: "promise", group: null }), "person");
});

test("a worker that holds a call and is late with its heartbeat is a flag, too", () => {
  const held = task({ state: "acquired", pid: "9c1e0000", ttl: 10_000 });
  const asked = [];
  assert.equal(flag(run(""), held, (...who) => asked.push(who) > 0), "late");
  assert.deepEqual(asked, [[{ group: GROUP, pid: "9c1e0000" }, 10_000]]);
  assert.equal(flag(run(""), held), null);
});

test("what is as it should be has none", () => {
  assert.equal(flag(phase("waiting", 0, null, { reason: "created" }), task({})), null);
  assert.equal(flag(phase("suspended", 0, null, { on: ["x"] }), task({})), null);
  assert.equal(flag(phase("gap", 0, 9, { reason: "gone" }), { ...task({}), state: "resolved", settled_at: 9 }), null);
});
