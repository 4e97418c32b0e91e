// The stream of events, from a server of the test's own.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { STATIC } from "./build.mjs";

const server = createServer((request, response) => {
  if (request.url.startsWith("/ui/api/chain?")) return; // It is never answered.
  opened += 1;
  response.write(`{"kind":"hello","epoch":"e","seq":0,"resumed":false}\n`);
  if (opened === 1) response.end();
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
globalThis.document = { baseURI: `http://127.0.0.1:${server.address().port}/ui/` };
globalThis.sessionStorage = { getItem: () => null };
Object.defineProperty(globalThis, "navigator", { value: {} }); // Node has none, or one without locks, by version.
const { chain } = await import(new URL("net/api.js", STATIC));
const { Stream } = await import(new URL("net/stream.js", STATIC));

let opened = 0;
const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

test("a request that is never answered fails after a while", async () => {
  AbortSignal.timeout = () => AbortSignal.abort(new DOMException("late", "TimeoutError"));
  await assert.rejects(chain("x"), { status: 0, mayPass: true, message: "The server does not answer" });
});

test("one that is stopped while it pauses, and started again at once, does not run twice", async () => {
  let greeted = 0;
  let hears;
  const lost = new Promise((heard) => (hears = heard));
  const stream = new Stream({ hello: () => (greeted += 1), beat() {}, event() {}, refused() {}, lost: () => hears() });
  stream.run();
  await lost;
  stream.stop(); // As when a token is asked for.
  stream.run();
  await pause(1000);
  assert.deepEqual([opened, greeted], [2, 2]);
  stream.stop();
  server.closeAllConnections();
  server.close();
});
