"""A worker whose function works until a file exists, without blocking the event loop."""

import asyncio
from pathlib import Path

from resonate.context import Context

from worker import Worker, log_run


async def work(ctx: Context, until: str) -> str:
    log_run(ctx)
    while not Path(until).exists():
        await asyncio.sleep(0.05)
    return "done"


if __name__ == "__main__":
    Worker("service-working", work).run()
