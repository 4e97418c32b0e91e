"""A baz that works for a while before it returns 1, so that it can be killed at work (`python -m bench.slow_baz`)."""

import asyncio

from resonate.context import Context

from worker import Worker, log_run

BAZ_SECONDS = 1.0


async def baz(ctx: Context) -> int:
    log_run(ctx)
    await asyncio.sleep(BAZ_SECONDS)
    return 1


if __name__ == "__main__":
    Worker("service-baz", baz).run()
