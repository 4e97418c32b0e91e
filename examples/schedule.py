"""Schedule: the server calls a function every two seconds, like cron, and never misses a call.

    scripts/example.sh schedule

Kill the worker with the command that the script prints, wait, and start it again: it runs the calls that fell due
meanwhile, each of them once. The schedule belongs to the server and outlives the worker. To delete it (`resonate` is
`docker compose exec resonate-server resonate`, or `.venv/bin/resonate`):

    resonate schedules delete example-schedule
"""

import asyncio

from resonate.context import Context
from resonate.resonate import Resonate

from worker import Settings, Worker, log_run

GROUP = "example-schedule"
EVERY_TWO_SECONDS = "*/2 * * * * *"


async def tick(ctx: Context) -> str:
    """Return the time that the call is for, in ms: its id ends with it."""
    log_run(ctx)
    return ctx.info.id.rpartition("-")[2]


async def plan() -> None:
    """Create the schedule; leave an existing one as it is."""
    resonate = Resonate(url=Settings.from_environment().server_url)
    await resonate.options(target=GROUP).schedule("example-schedule", EVERY_TWO_SECONDS, "tick")
    await resonate.stop()


if __name__ == "__main__":
    asyncio.run(plan())
    Worker(GROUP, tick).run()
