"""foo, the start of the chain: it calls bar and adds 1 to what bar returned. `POST /foo` runs it."""

from resonate.context import Context

from foo_web import serve
from worker import Worker, log_run


async def foo(ctx: Context, pause: float = 0, running: float = 0) -> int:
    log_run(ctx)
    result: int = await ctx.options(target="service-bar").rpc("bar", pause, running)
    return result + 1


def main() -> None:
    serve(Worker("service-foo", foo))


if __name__ == "__main__":
    main()
