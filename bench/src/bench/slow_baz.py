"""A baz that works for a while before it returns 1, so that it can be killed at work. `python -m bench.slow_baz`

BENCH_BAZ_SECONDS: for how long.
"""

import asyncio
import os

from resonate.context import Context

from worker import Worker, log_run

SECONDS_VARIABLE = "BENCH_BAZ_SECONDS"


async def baz(ctx: Context) -> int:
    log_run(ctx)
    await asyncio.sleep(float(os.environ[SECONDS_VARIABLE]))
    return 1


def main() -> None:
    Worker("service-baz", baz).run()


if __name__ == "__main__":
    main()
