// A worker and a client on the TypeScript SDK: the counterpart of program.py, with the same functions and command line,
// except that the SDK's version comes first.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";

// The SDK requires Node 22, but this is the only feature it uses that Node 20 lacks.
Promise.withResolvers ??= function () {
  const parts = {};
  parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
};

const [sdk, role, group, leaseSeconds = "60"] = process.argv.slice(2);
const { Constant, Resonate } = await import(`sdk-${sdk}`);
const { version } = createRequire(import.meta.url)(`sdk-${sdk}/package.json`);
const AT_ONCE = new Constant({ delay: 0, maxRetries: 5 });

// ── durable functions ─────────────────────────────────────────────────────────────────────────────────────

const logRun = (name, ctx) => console.log(`running function ${name}  promise=${ctx.id}`);

const falls = new Map();

const functions = {
  /** Send `number` through one worker after another; each hop adds 1. */
  *relay(ctx, groups, number) {
    logRun("relay", ctx);
    if (groups.length === 0) return number;
    return yield* ctx.rpc("relay", groups.slice(1), number + 1, ctx.options({ target: groups[0] }));
  },

  /** Fail at the end of the chain. */
  *complain(ctx, groups, message) {
    logRun("complain", ctx);
    if (groups.length === 0) throw new Error(message);
    yield* ctx.rpc("complain", groups.slice(1), message, ctx.options({ target: groups[0] }));
  },

  async add(ctx, left, right) {
    logRun("add", ctx);
    return left + right;
  },

  /** Add up 1 to `count`, all additions at once, each by a worker of the group. */
  *fan(ctx, target, count) {
    logRun("fan", ctx);
    const sums = [];
    for (let number = 1; number <= count; number++) {
      sums.push(yield* ctx.beginRpc("add", number, 0, ctx.options({ target })));
    }
    let total = 0;
    for (const sum of sums) total += yield* sum;
    return total;
  },

  async echo(ctx, value) {
    logRun("echo", ctx);
    return value;
  },

  *nap(ctx, seconds) {
    logRun("nap", ctx);
    yield* ctx.sleep(seconds * 1000);
    return "rested";
  },

  /** Wait for somebody outside. */
  *ask(ctx) {
    logRun("ask", ctx);
    return yield* yield* ctx.promise();
  },

  /** Start another function without waiting for it; its promise id. Unless told, the SDK takes the group `default`. */
  *launch(ctx, left, right) {
    logRun("launch", ctx);
    return (yield* ctx.detached("add", left, right, ctx.options({ target: group }))).id;
  },

  /** Start another function, under an id of its own, without waiting for it; then wait for somebody outside. */
  *launch_and_ask(ctx, left, right) {
    logRun("launch_and_ask", ctx);
    yield* ctx.detached("add", left, right, ctx.options({ target: group, id: `${ctx.id}-launched` }));
    return yield* yield* ctx.promise();
  },

  /** Go from one worker to another; from the last one start another chain without waiting for it. */
  *launch_below(ctx, groups, then) {
    logRun("launch_below", ctx);
    if (groups.length === 0) return (yield* ctx.detached("relay", then, 0, ctx.options({ target: group }))).id;
    return yield* ctx.rpc("launch_below", groups.slice(1), then, ctx.options({ target: groups[0] }));
  },

  /** Fail so many times, then succeed. */
  async stumble(ctx, times) {
    logRun("stumble", ctx);
    falls.set(ctx.id, (falls.get(ctx.id) ?? 0) + 1);
    if (falls.get(ctx.id) <= times) throw new Error(`fall ${falls.get(ctx.id)}`);
    return "arrived";
  },

  /** The same, as a step. */
  *walk(ctx, times) {
    logRun("walk", ctx);
    return yield* ctx.run(functions.stumble, times, ctx.options({ retryPolicy: AT_ONCE }));
  },

  /** One quick step, then one that is at work until `file` exists. */
  *hold(ctx, file) {
    logRun("hold", ctx);
    const sum = yield* ctx.run(functions.add, 1, 2);
    yield* ctx.run(waitForFile, file);
    return sum;
  },
};

async function waitForFile(ctx, file) {
  logRun("wait_for_file", ctx);
  while (!existsSync(file)) await delay(20);
}

// ── client ────────────────────────────────────────────────────────────────────────────────────────────────

const resonate = new Resonate({ group, ttl: Number(leaseSeconds) * 1000 });
for (const [name, func] of Object.entries(functions)) resonate.register(name, func);

const actions = {
  run: (id, name, ...args) => resonate.run(id, name, ...args),
  rpc: (target, id, name, ...args) => resonate.rpc(id, name, ...args, resonate.options({ target })),
  get: async (id) => (await resonate.get(id)).result(),
};

async function act(line) {
  const [number, action, args] = JSON.parse(line);
  try {
    const value = (await actions[action](...args)) ?? null;
    console.log(JSON.stringify({ number, value }));
  } catch (error) {
    console.log(JSON.stringify({ number, error: error.name, message: error.message }));
  }
}

if (role === "worker") {
  console.log(`resonate-sdk ${version} serves ${group}`);
} else {
  const calls = [];
  for await (const line of createInterface({ input: process.stdin })) calls.push(act(line));
  await Promise.all(calls);
  await resonate.stop();
}
