"""A worker and a client on the plain Python SDK, the way a reader of its documentation would write them.

Runs under every SDK version that the tests name, each in its own environment, so it imports nothing but the SDK.

    python program.py worker GROUP LEASE_SECONDS    serves the functions below until it is killed
    python program.py client GROUP                  reads calls from stdin: [NUMBER, ACTION, [ARGUMENT, ...]] a line

RESONATE_URL names the server.
"""

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resonate.context import Context
from resonate.handle import ResonateHandle
from resonate.resonate import Resonate
from resonate.retry import Constant, Never
from resonate.types import Value

AT_ONCE = Constant(delay=0, max_retries=5)

# ── durable functions ───────────────────────────────────────────────────────────────────────────────────────


def log_run(ctx: Context) -> None:
    print(f"running function {ctx.info.func_name}  promise={ctx.info.id}", flush=True)


async def relay(ctx: Context, groups: list[str], number: int) -> int:
    """Send `number` through one worker after another; each hop adds 1."""
    log_run(ctx)
    if not groups:
        return number
    passed: int = await ctx.options(target=groups[0]).rpc("relay", groups[1:], number + 1)
    return passed


async def complain(ctx: Context, groups: list[str], message: str) -> None:
    log_run(ctx)
    if not groups:
        raise ValueError(message)
    await ctx.options(target=groups[0]).rpc("complain", groups[1:], message)


async def add(ctx: Context, left: int, right: int) -> int:
    log_run(ctx)
    return left + right


async def steps(ctx: Context, count: int) -> int:
    log_run(ctx)
    total = 0
    for number in range(1, count + 1):
        total = await ctx.run(add, total, number)
    return total


async def fan(ctx: Context, target: str, count: int) -> int:
    """Add up 1 to `count`, with all additions at once in workers of the group."""
    log_run(ctx)
    sums = [ctx.options(target=target).rpc("add", number, 0) for number in range(1, count + 1)]
    return sum([await sum_ for sum_ in sums])


async def echo(ctx: Context, value: Any) -> Any:
    log_run(ctx)
    return value


async def nap(ctx: Context, seconds: float) -> str:
    log_run(ctx)
    await ctx.sleep(timedelta(seconds=seconds))
    return "rested"


async def ask(ctx: Context) -> Any:
    log_run(ctx)
    return await ctx.promise()


async def launch(ctx: Context, left: int, right: int) -> str:
    log_run(ctx)
    return await ctx.detached("add", left, right)


async def launch_and_ask(ctx: Context, left: int, right: int) -> Any:
    """Start another function without waiting for it, then wait for a promise that is settled from outside."""
    log_run(ctx)
    await ctx.detached("add", left, right)
    return await ctx.promise()


async def launch_below(ctx: Context, groups: list[str], then: list[str]) -> str:
    """Go from one worker to the next; from the last one start another chain without waiting for it."""
    log_run(ctx)
    if not groups:
        return await ctx.detached("relay", then, 0)
    launched: str = await ctx.options(target=groups[0]).rpc("launch_below", groups[1:], then)
    return launched


_falls: Counter[str] = Counter()


async def stumble(ctx: Context, times: int) -> str:
    """Fail that many times, then succeed."""
    log_run(ctx)
    _falls[ctx.info.id] += 1
    if _falls[ctx.info.id] <= times:
        raise RuntimeError(f"fall {_falls[ctx.info.id]}")
    return "arrived"


async def walk(ctx: Context, times: int) -> str:
    """The same, as a step."""
    log_run(ctx)
    return await ctx.options(retry_policy=AT_ONCE).run(stumble, times)


async def hold(ctx: Context, file: str) -> int:
    """Run a quick step, then one that lasts until `file` exists."""
    log_run(ctx)
    sum_ = await ctx.run(add, 1, 2)
    await ctx.run(wait_for_file, file)
    return sum_


async def wait_for_file(ctx: Context, file: str) -> None:
    log_run(ctx)
    while not Path(file).exists():
        await asyncio.sleep(0.02)


# ── worker ──────────────────────────────────────────────────────────────────────────────────────────────────


def connect(group: str, lease_seconds: float = 60) -> Resonate:
    """Connect with the functions above. A failing leaf is not retried unless it says so."""
    resonate = Resonate(group=group, ttl=timedelta(seconds=lease_seconds), retry_policy=Never())
    launching = (launch, launch_and_ask, launch_below)
    for function in (relay, complain, add, steps, fan, echo, nap, ask, *launching, walk, hold):
        resonate.register(function)
    resonate.register(stumble, retry_policy=AT_ONCE)
    return resonate


async def serve(group: str, lease_seconds: str) -> None:
    connect(group, float(lease_seconds))
    print(f"resonate-sdk {version('resonate-sdk')} serves {group}", flush=True)
    await asyncio.Event().wait()


# ── client ──────────────────────────────────────────────────────────────────────────────────────────────────


async def run(resonate: Resonate, id: str, function: str, *args: Any) -> Any:
    return await resonate.run(id, function, *args).result()


async def rpc(resonate: Resonate, group: str, id: str, function: str, *args: Any) -> Any:
    """Let a worker of the group run a function."""
    return await resonate.options(target=group).rpc(id, function, *args).result()


async def rpc_within(resonate: Resonate, seconds: float, group: str, id: str, function: str, *args: Any) -> Any:
    timeout = timedelta(seconds=seconds)
    return await resonate.options(target=group, timeout=timeout).rpc(id, function, *args).result()


async def rpc_many(resonate: Resonate, group: str, ids: list[str], function: str, *args: Any) -> list[Any]:
    there = resonate.options(target=group)
    handles: list[ResonateHandle[Any]] = [there.rpc(id, function, *args) for id in ids]
    return await asyncio.gather(*(handle.result() for handle in handles))


async def get(resonate: Resonate, id: str) -> Any:
    handle = await resonate.get(id)
    return await handle.result()


async def resolve(resonate: Resonate, id: str, value: Any) -> None:
    await resonate.promises.resolve(id, Value(data=value))


async def reject(resonate: Resonate, id: str, message: str) -> None:
    await resonate.promises.reject(id, Value(data=ValueError(message)))


async def cancel(resonate: Resonate, id: str) -> None:
    await resonate.promises.cancel(id, Value())


async def schedule(resonate: Resonate, group: str, id: str, cron: str, function: str, *args: Any) -> None:
    await resonate.options(target=group).schedule(id, cron, function, args)


async def unschedule(resonate: Resonate, id: str) -> None:
    await resonate.schedules.delete(id)


ACTIONS: dict[str, Callable[..., Awaitable[Any]]] = {
    action.__name__: action
    for action in (run, rpc, rpc_within, rpc_many, get, resolve, reject, cancel, schedule, unschedule)
}


async def act(resonate: Resonate, line: str) -> None:
    """Do what the line says and print {"number": …, "value": …}, or {"number": …, "error": name, "message": …}."""
    number, action, arguments = json.loads(line)
    outcome: dict[str, Any] = {"number": number}
    try:
        outcome["value"] = await ACTIONS[action](resonate, *arguments)
    except Exception as error:
        outcome |= {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(outcome), flush=True)


async def call(group: str) -> None:
    """Act on all lines of stdin concurrently; stop cleanly when there are no more."""
    resonate = connect(group)
    async with asyncio.TaskGroup() as actions:
        while line := await asyncio.to_thread(sys.stdin.readline):
            actions.create_task(act(resonate, line))
    await resonate.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    logging.getLogger("resonate.validation").setLevel(logging.WARNING)  # 0.7 logs every request there
    role, *options = sys.argv[1:]
    asyncio.run(serve(*options) if role == "worker" else call(*options))
