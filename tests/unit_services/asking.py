"""A worker with functions that await promises which anybody may settle and report the errors they get, or that fail."""

from resonate.context import Context

from worker import Worker, log_run


async def ask_function(ctx: Context) -> list[str]:
    """Call a group that has no worker."""
    log_run(ctx)
    try:
        await ctx.options(target="service-nobody").rpc("answer")
    except Exception as error:
        return _told(error)
    return []


async def ask_person(ctx: Context) -> list[str]:
    log_run(ctx)
    try:
        await ctx.promise()
    except Exception as error:
        return _told(error)
    return []


async def fail(ctx: Context, message: str = "no number today") -> None:
    log_run(ctx)
    raise ValueError(message)


async def fail_in_a_step(ctx: Context) -> list[str]:
    log_run(ctx)
    try:
        await ctx.run(fail)
    except Exception as error:
        return _told(error)
    return []


async def give_back(ctx: Context, value: object) -> object:
    log_run(ctx)
    return value


def _told(error: Exception) -> list[str]:
    return [type(error).__name__, str(error)]


if __name__ == "__main__":
    Worker("service-asking", ask_function, ask_person, fail, fail_in_a_step, give_back).run()
