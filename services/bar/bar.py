"""bar, the middle of the chain: it calls baz, takes its time, and adds 1 to what baz returned."""

import asyncio
from datetime import timedelta

from resonate.context import Context

from worker import Worker, log_run


async def bar(ctx: Context, pause: float = 0, running: float = 0) -> int:
    """Spend `pause` seconds suspended, or `running` seconds at work, between calling baz and awaiting it.

    A new argument needs a default, and goes live here before foo passes it: an older bar would fail.
    """
    log_run(ctx)
    promise = ctx.options(target="service-baz").rpc("baz")
    if pause:
        await ctx.sleep(timedelta(seconds=pause))
    if running:
        await ctx.run(work, running)
    result: int = await promise
    return result + 1


async def work(ctx: Context, seconds: float) -> None:
    """Work for the given time. A function that blocks would stop the heartbeats of the whole process."""
    log_run(ctx)
    await asyncio.sleep(seconds)


def main() -> None:
    Worker("service-bar", bar).run()


if __name__ == "__main__":
    main()
