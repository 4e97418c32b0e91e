"""A bar that works until a file exists, so that many are at work at once (`python -m bench.gated_bar`)."""

import asyncio
import time
from functools import cache
from pathlib import Path

from resonate.context import Context

from worker import Worker, log_run

LOOK_SECONDS = 0.1


async def bar(ctx: Context, gate: str) -> int:
    log_run(ctx)
    promise = ctx.options(target="service-baz").rpc("baz")
    await ctx.run(work, gate)
    result: int = await promise
    return result + 1


async def work(ctx: Context, gate: str) -> None:
    log_run(ctx)
    await asyncio.shield(_opening(gate))


@cache
def _opening(gate: str) -> asyncio.Task[None]:
    """Return one task for all that wait."""
    return asyncio.get_running_loop().create_task(asyncio.to_thread(_wait_until_open, Path(gate)))


def _wait_until_open(gate: Path) -> None:
    while not gate.exists():
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    Worker("service-bar", bar).run()
