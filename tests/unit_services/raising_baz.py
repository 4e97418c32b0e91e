"""A worker that replaces baz and fails."""

from resonate.context import Context

from worker import Worker, log_run


async def baz(ctx: Context) -> int:
    log_run(ctx)
    raise ValueError("no number today")


if __name__ == "__main__":
    Worker("service-baz", baz).run()
