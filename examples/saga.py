"""Saga: three bookings; if one of them fails, the earlier ones are cancelled in reverse order.

    scripts/example.sh saga

The car is sold out, so the hotel is cancelled, and then the flight. Each step takes 2 s. Kill the worker during any of
them, with the command that the script prints, and start it again with the id that the script names: it continues with
the interrupted step. Earlier bookings and cancellations are not repeated.
"""

import asyncio
import logging

from resonate.context import Context
from resonate.error import ApplicationError
from resonate.retry import Never

from worker import Worker, log_run


async def saga(ctx: Context, sold_out: str = "car", seconds: float = 2) -> str:
    """Book everything or, in the end, nothing. Each step takes `seconds`."""
    log_run(ctx)
    once = ctx.options(retry_policy=Never())  # what is sold out stays sold out
    booked: list[str] = []
    try:
        for what in ("flight", "hotel", "car"):
            await once.run(book, what, sold_out, seconds)
            booked.append(what)
    except ApplicationError as error:
        for what in reversed(booked):
            await ctx.run(cancel, what, seconds)
        return f"nothing is booked: {error}"
    return f"booked: {', '.join(booked)}"


async def book(ctx: Context, what: str, sold_out: str, seconds: float) -> None:
    """An interrupted step runs again: a real one would send `ctx.info.id` as its idempotency key."""
    await asyncio.sleep(seconds)
    if what == sold_out:
        raise ValueError(f"the {what} is sold out")
    logging.info("booked the %s  key=%s", what, ctx.info.id)


async def cancel(ctx: Context, what: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    logging.info("cancelled the %s  key=%s", what, ctx.info.id)


if __name__ == "__main__":
    Worker("example-saga", saga).run()
