"""A worker with functions that block its event loop for BLOCK_SECONDS."""

import os
import time

from harness.basics import hold_gil
from resonate.context import Context

from worker import Worker, log_run

SECONDS = float(os.environ.get("BLOCK_SECONDS", "0"))


async def sleeping(ctx: Context) -> str:
    log_run(ctx)
    time.sleep(SECONDS)  # noqa: ASYNC251  this is what is to be noticed
    return "done"


async def computing(ctx: Context) -> str:
    log_run(ctx)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        sum(range(1000))
    return "done"


async def holding(ctx: Context) -> str:
    """Block in C code that holds the GIL, so that no other thread of the process runs."""
    log_run(ctx)
    hold_gil(2)
    return "done"


async def with_a_step(ctx: Context) -> str:
    log_run(ctx)
    done: str = await ctx.run(step)
    return done


def step(ctx: Context) -> str:
    log_run(ctx)
    _library()
    return "done"


def _library() -> None:
    time.sleep(SECONDS)


if __name__ == "__main__":
    Worker("service-functions", sleeping, computing, holding, with_a_step).run()
