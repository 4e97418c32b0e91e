"""baz, the end of the chain: it returns 1."""

from resonate.context import Context

from worker import Worker, log_run


async def baz(ctx: Context) -> int:
    log_run(ctx)
    return 1


def main() -> None:
    Worker("service-baz", baz).run()


if __name__ == "__main__":
    main()
