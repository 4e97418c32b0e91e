// Readable text: durations, sentences, and text from strangers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { STATIC, detail, phase } from "./build.mjs";

const { asked, coarse, duration, mark } = await import(new URL("text/durations.js", STATIC));
const { addressOf, cut, lines, ownPart, shortPid, shorten, visible } = await import(new URL("text/safe.js", STATIC));
const { argumentsOf, brief, failure, readable } = await import(new URL("text/payloads.js", STATIC));
const { headline, rowSentence, sentence } = await import(new URL("text/sentences.js", STATIC));
const { Chain, Names, rowsOf } = await import(new URL("model/chain.js", STATIC));

test("durations are as exact as one can read them", () => {
  assert.deepEqual([0, 340, 1240, 11_200, 99_990, 184_000, 7_500_000, 270_000_000].map(duration), ["0 ms", "340 ms", "1.2 s", "11.2 s", "1 min 40 s", "3 min 4 s", "2 h 5 min", "3 d 3 h"]);
  assert.equal(coarse(59_999), "59 s");
  assert.deepEqual([0, 500, 2500, 60_000].map(mark), ["0", "500 ms", "2.5 s", "1 min"]);
});

test("a sleep is as long as it was asked for", () => {
  assert.deepEqual([7_930, 10_000, 700, 2_480, 59_400].map(asked), ["8 s", "10 s", "700 ms", "2.5 s", "1 min"]);
});

test("control characters and direction overrides are seen, not obeyed", () => {
  assert.equal(visible("a\u0000\u001b[31m\u202egnp.exe\u007f"), "a␀␛[31m⟨202E⟩gnp.exe␡");
  assert.equal(visible("one\ntwo\tthree"), "one␊two␉three");
  assert.equal(lines("one\ntwo\u0007"), "one\ntwo␇");
  assert.equal(visible("\ud800"), "\ufffd");
});

test("what cannot be seen is seen, or two ids would look the same", () => {
  const unseen = ["\u00ad", "\u034f", "\u115f", "\u180e", "\u200b", "\u200d", "\u206a", "\u3164", "\ufe0f", "\ufeff", "\ufff9", "\u{e0041}"];
  for (const char of unseen) assert.match(visible(`order${char}-42`), /^order⟨[0-9A-F]+⟩-42$/);
  assert.equal(visible("a\u2028b\u0085"), "a⟨2028⟩b⟨0085⟩");
});

test("what a script or an emoji needs is left alone, but only one of it", () => {
  for (const text of ["👩‍💻", "❤️‍🔥", "می‌خواهم", "ශ්‍රී"]) assert.equal(visible(text), text);
  assert.equal(visible("é\u200d\u200d"), "é\u200d⟨200D⟩");
});

test("text is cut between characters, never within one", () => {
  assert.equal(cut("👍👍👍👍", 3), "👍👍…");
  assert.equal(shorten("abcdefghij", 5), "ab…ij");
  assert.equal(shorten("abc", 5), "abc");
});

test("a worker is told by the part of its id that differs", () => {
  assert.deepEqual(["3f2a9c1e77aa", "bar-1", "a-long-name-of-a-worker-17"].map(shortPid), ["3f2a", "bar-1", "a-lon…r-17"]);
  assert.equal(ownPart("foo:1.2", "foo:1"), ".2");
});

test("a value is told on one line, an error by its message", () => {
  assert.equal(brief(null), "nothing");
  assert.equal(brief({ text: "3", cut: false }), "3");
  assert.equal(brief({ text: '{"__type":"error","message":"no stock"}', cut: false }), "no stock");
  assert.equal(brief({ text: '{"a": [1,', cut: true }, 8), '{"a": […');
});

const error = (more) => ({ text: JSON.stringify({ __type: "error", message: "no stock", ...more }), cut: false });
const PICKLE = "gASVKgAAAAAAAACMCGJ1aWx0aW5zlIwKVmFsdWVFcnJvcpSTlIwIbm8gc3RvY2uUhZRSlC4=";

test("a failure is told by type, message and where it was, whichever SDK wrote it", () => {
  assert.deepEqual(failure(error({ name: "OutOfStock", stack: "at reserve" })), { type: "OutOfStock", message: "no stock", stack: "at reserve", rest: "" });
  assert.equal(failure(error({ code: 7 })).rest, '{\n  "code": 7\n}');
});

test("of a pickle the class is read, and its letters are never shown", () => {
  assert.deepEqual(failure(error({ __py_pickle: PICKLE })), { type: "ValueError", message: "no stock", stack: "", rest: "" });
  assert.equal(failure(error({ __py_pickle: "no pickle!" })).type, "");
});

test("what only looks like an error is a value", () => {
  for (const text of ["null", "3", '"x"', '{"message":"no"}', '{"__type":"error"}', "{"]) assert.equal(failure({ text, cut: false }), null);
});

test("arguments are told without what stands around them", () => {
  assert.equal(argumentsOf({ text: '{"func":"pay","args":[1,"x"],"version":1}' }).text, '[1,"x"]');
  assert.equal(argumentsOf({ text: '{"func":"pay","args":[1],"kwargs":{"a":2}}' }).text, '{"args":[1],"kwargs":{"a":2}}');
  assert.equal(argumentsOf({ text: '{"a":1}' }).text, '{"a":1}');
});

test("short JSON stays on its line, long JSON is indented, and what was cut stands as it came", () => {
  const long = JSON.stringify({ a: "x".repeat(100) });
  assert.equal(readable({ text: '{"a":1}', cut: false }), '{"a":1}');
  assert.equal(readable({ text: long, cut: false }).split("\n").length, 3);
  assert.equal(readable({ text: long, cut: true }), long);
});

const names = new Names();
names.learn({ id: "foo:1", func: "bar", group: "service-bar", parent: "foo", created_at: 0, timeout_at: 9 });
names.learn({ id: "foo:1.2", timer: true, group: "service-bar", parent: "foo:1", created_at: 0, timeout_at: 10_000 });
names.learn({ id: "foo:1.3", parent: "foo:1", created_at: 0, timeout_at: 10_000 });
names.learn({ id: "loop", parent: "loop", created_at: 0, timeout_at: 10_000 });
const told = (kind, more) => sentence({ kind, at: 0, ...more }, names);

test("the log speaks in plain sentences", () => {
  assert.equal(told("worker.left", { group: "service-bar", pid: "3f2a000000", planned: false }), "bar (worker 3f2a) gone: connection closed");
  assert.equal(told("task.sent", { id: "foo:1", group: "service-bar", pid: "9c1e000000", version: 1 }), "execute foo:1 → bar 9c1e, attempt 2");
  assert.equal(told("promise.settled", { id: "foo:1", state: "resolved", value: { text: "3" }, created_at: 0, settled_at: 11_200 }), "bar resolved: 3 after 11.2 s");
  assert.equal(told("task.suspended", { id: "foo:1", on: ["foo:1.2"] }), "bar suspended: waits for sleep 10 s");
  assert.equal(told("task.lost", { id: "foo:1", pid: "3f2a000000", version: 1, reason: "lease" }), "bar, attempt 1 on 3f2a, broke off: its lease ended");
  assert.equal(told("promise.settled", { id: "foo:1.3", state: "resolved", value: null, created_at: 0, settled_at: 5 }), "a step of bar resolved: nothing after 5 ms");
});

test("a worker is reached at an address in which its group and its id are whole", () => {
  assert.equal(addressOf({ group: "service-pay", pid: "3f2a" }), "poll://any@service-pay/3f2a");
  assert.equal(addressOf({ group: "a/b@ü", pid: "1/2\ud800" }), "poll://any@a%2Fb%40%C3%BC/1%2F2%EF%BF%BD");
});

test("what is wrong with a task is told as the server says it", () => {
  const trouble = "claimed 2 times, given back each time";
  assert.equal(told("task.unclaimed", { id: "foo:1", version: 0, trouble: "handed out once, claimed by nobody" }), "bar: handed out once, claimed by nobody");
  assert.equal(told("task.released", { id: "foo:1", pid: "3f2a000000", version: 2, trouble }), `bar handed back by 3f2a: ${trouble}`);
  assert.equal(told("task.released", { id: "foo:1", pid: "3f2a000000", version: 1, trouble: "" }), "bar handed back by 3f2a");
});

test("what says nothing new has no sentence, and strange events have none", () => {
  assert.equal(told("worker.heard", { pid: "p" }), null);
  assert.equal(told("task.queued", { id: "foo:1", reason: "created" }), null);
  assert.equal(told("something.else", {}), null);
});

test("a promise that is its own parent has a name all the same", () => {
  assert.equal(told("task.released", { id: "loop", pid: null, version: 1 }), "a step of loop handed back");
});

const rowsWith = (...phases) => rowsOf(new Chain(detail({ foo: { role: "call", func: "bar", group: "service-bar", phases } })));
const running = phase("running", 10, null, { attempt: 2, pid: "9c1e0000" });

test("a row is told in one sentence", () => {
  assert.equal(rowSentence(rowsWith(running)[0], 1210, String), "bar, attempt 2, running for 1.2 s on worker 9c1e");
});

test("the headline names the step that runs, if its name is known", () => {
  const head = (step) => {
    const steps = { role: "step", parent: "foo", group: null, phases: [phase("running", 20, null, { attempt: 2, pid: "9c1e0000", step: true })], ...step };
    const chain = new Chain(detail({ foo: { role: "call", func: "bar", group: "service-bar", phases: [running] }, "foo:1": steps }));
    return headline(rowsOf(chain), 1210, String, () => false).text;
  };
  assert.equal(head({ func: "work" }), "Work, a step of bar, runs on worker 9c1e, attempt 2");
  assert.equal(head({}), "A step of bar runs on worker 9c1e, attempt 2");
});

test("the headline says what happens, and what is wrong before anything else", () => {
  const here = () => false;
  assert.deepEqual(headline(rowsWith(running), 1210, String, here), { tone: "busy", text: "Bar runs on worker 9c1e, attempt 2" });
  const gone = headline(rowsWith({ ...running, to: 500, broken: true }, phase("gap", 500, null, { reason: "silent" })), 1210, String, here);
  assert.deepEqual(gone, { tone: "gap", text: "Bar is gone in the middle of its work" });
  assert.deepEqual(headline(rowsWith(running), 1210, String, () => true), gone, "as soon as the panel of workers says so");
});
