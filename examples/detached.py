"""Detached: start a call, answer at once, and look up the result later.

    scripts/example.sh detached       # or: scripts/trigger.sh --flow detached

It returns the id of a call of bar that takes another 20 s. `scripts/watch.sh ID` follows that call, now or next week.
Kill bar meanwhile (`docker compose kill bar`, or `kill -9`), or stop everything with `scripts/down.sh`, and start it
again with `scripts/up.sh`: the call continues, and baz does not run a second time.
"""

from resonate.context import Context

from worker import Worker, log_run


async def detached(ctx: Context, pause: float = 20) -> str:
    """Return the id of the call of bar, which continues by itself."""
    log_run(ctx)
    id: str = await ctx.options(target="service-bar").detached("bar", pause)
    return id


if __name__ == "__main__":
    Worker("example-detached", detached).run()
