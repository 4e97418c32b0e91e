"""A worker with functions that await promises which anybody may settle and report the errors they get, or that fail."""

from collections.abc import Awaitable

from resonate.context import Context

from worker import Worker, log_run


async def error_of(awaited: Awaitable[object]) -> list[str]:
    """Return the name and the message of the error that it ends with."""
    try:
        await awaited
    except Exception as error:
        return [type(error).__name__, str(error)]
    return []


async def ask_function(ctx: Context) -> list[str]:
    """Call a group that has no worker."""
    log_run(ctx)
    return await error_of(ctx.options(target="service-nobody").rpc("answer"))


async def ask_person(ctx: Context) -> list[str]:
    log_run(ctx)
    return await error_of(ctx.promise())


async def fail(ctx: Context, message: str = "no number today") -> None:
    log_run(ctx)
    raise ValueError(message)


async def fail_in_a_step(ctx: Context) -> list[str]:
    log_run(ctx)
    return await error_of(ctx.run(fail))


async def give_back(ctx: Context, value: object) -> object:
    log_run(ctx)
    return value


if __name__ == "__main__":
    Worker("service-asking", ask_function, ask_person, fail, fail_in_a_step, give_back).run()
