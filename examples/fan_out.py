"""Fan out and in: a hundred calls of bar at once, and one answer that adds theirs up.

    scripts/example.sh fan-out        # or: scripts/trigger.sh --flow fan-out

For three bars: `docker compose up -d --no-recreate --scale bar=3`, or `.venv/bin/bar` in two further terminals. Kill
any or all of them meanwhile (`docker kill`, `kill -9`), and start them again with `scripts/up.sh`. The work of a dead
bar goes to another one as soon as its leases expire, finished calls stay finished, baz runs no more than a hundred
times, and the sum is 200.
"""

from resonate.context import Context

from worker import Worker


async def fan_out(ctx: Context, calls: int = 100, seconds: float = 5) -> int:
    """Call bar `calls` times, with `seconds` of work each, and add up the results: 2 each."""
    bar = ctx.options(target="service-bar")
    promises = [bar.rpc("bar", running=seconds) for _ in range(calls)]
    return sum([await promise for promise in promises])


if __name__ == "__main__":
    Worker("example-fan-out", fan_out).run()
