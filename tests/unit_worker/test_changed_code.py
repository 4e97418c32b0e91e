"""A function whose code changes while its calls are in flight stops with a clear error, and completes once the code
fits again."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from resonate.context import Context

from worker import log_run

from .group import Group, Told, until

type Code = Callable[[Context], Awaitable[Any]]


async def pack(ctx: Context) -> str:  # noqa: ARG001
    return "packed"


async def wrap(ctx: Context) -> str:  # noqa: ARG001
    return "wrapped"


def ask(ctx: Context, function: str = "price", target: str = "prices", number: int = 2) -> Awaitable[Any]:
    return ctx.options(target=target).rpc(function, "tea", number)


async def original(ctx: Context) -> list[Any]:
    return [await ctx.run(pack), await ask(ctx)]


async def inserted(ctx: Context) -> list[Any]:
    return [await ask(ctx, "discount"), *await original(ctx)]


async def removed(ctx: Context) -> Any:
    return await ask(ctx)


async def reordered(ctx: Context) -> list[Any]:
    return [await ask(ctx), await ctx.run(pack)]


async def renamed_step(ctx: Context) -> list[Any]:
    return [await ctx.run(wrap), await ask(ctx)]


def then(step: Callable[[Context], Awaitable[Any]]) -> Code:
    async def packed(ctx: Context) -> list[Any]:
        return [await ctx.run(pack), await step(ctx)]

    return packed


PRICE = 'rpc price("tea", 2) to poll://any@prices'


def second(now: str) -> str:
    return f"step 2 was {PRICE}, it is {now} now"


CHANGES: dict[str, tuple[Code, str]] = {
    "inserted": (inserted, 'step 1 was run pack, it is rpc discount("tea", 2) to poll://any@prices now'),
    "removed": (removed, f"step 1 was run pack, it is {PRICE} now"),
    "reordered": (reordered, f"step 1 was run pack, it is {PRICE} now"),
    "a step renamed": (renamed_step, "step 1 was run pack, it is run wrap now"),
    "a call renamed": (then(lambda ctx: ask(ctx, "cost")), second('rpc cost("tea", 2) to poll://any@prices')),
    "another target": (then(lambda ctx: ask(ctx, target="shops")), second('rpc price("tea", 2) to poll://any@shops')),
    "other arguments": (then(lambda ctx: ask(ctx, number=3)), second('rpc price("tea", 3) to poll://any@prices')),
    "a sleep": (then(lambda ctx: ctx.sleep(timedelta(seconds=1))), second("sleep")),
    "a question": (then(lambda ctx: ctx.promise()), second("promise")),
}


class Order:
    """A function that has asked for a price and is waiting for it, and whose code a test changes."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.code: Code = original

    async def begin(self) -> str:
        async def order(ctx: Context) -> Any:
            log_run(ctx)
            return await self.code(ctx)

        await self._group.work(order)
        id = self._group.begin("order")
        await self._group.waits(id)
        return id


@pytest.fixture
def order(group: Group) -> Order:
    return Order(group)


@pytest.mark.parametrize(("changed", "difference"), CHANGES.values(), ids=CHANGES)
async def test_a_changed_step_ends_the_attempt_and_the_old_code_completes_it(
    group: Group, order: Order, told: Told, changed: Code, difference: str
) -> None:
    id = await order.begin()
    order.code = changed
    group.settle(f"{id}:2", 7)
    reason = f"the code of order changed while {id} was under way, or is not deterministic: {difference}"
    await until(lambda: told(f"given back: {reason}"))
    assert group.promise(id)["state"] == "pending"

    order.code = original
    assert await group.result(id) == ["packed", 7]


async def test_functions_cannot_catch_the_difference_and_the_tree_shows_it(
    group: Group, order: Order, told: Told
) -> None:
    async def catching(ctx: Context) -> Any:
        try:
            return await removed(ctx)
        except Exception:
            return "caught"

    id = await order.begin()
    order.code = catching
    group.settle(f"{id}:2", 7)
    await until(lambda: told("given back: "))
    assert group.promise(id)["state"] == "pending"
    command = [str(Path(sys.executable).with_name("resonate")), "tree", id, "--server", group.server.url]
    shown = ""
    async with asyncio.timeout(60):
        while f"step 1 was run pack, it is {PRICE} now" not in " ".join(shown.split()):
            shown = await asyncio.to_thread(subprocess.check_output, command, text=True)


async def test_neither_a_changed_step_nor_those_beside_it_run(group: Group, order: Order, told: Told) -> None:
    ran = []

    async def note(ctx: Context) -> None:  # noqa: ARG001
        ran.append("beside it")

    async def changed(ctx: Context) -> Any:
        return await asyncio.gather(ctx.run(wrap), ctx.run(note), return_exceptions=True)

    id = await order.begin()
    order.code = changed
    group.settle(f"{id}:2", 7)
    await until(lambda: told("step 1 was run pack, it is run wrap now"))
    assert ran == []


async def test_steps_added_after_those_already_started_are_no_change(group: Group, order: Order) -> None:
    async def added(ctx: Context) -> list[Any]:
        return [*await original(ctx), await ctx.run(wrap)]

    id = await order.begin()
    order.code = added
    group.settle(f"{id}:2", 7)
    assert await group.result(id) == ["packed", 7, "wrapped"]


async def test_a_renamed_function_waits_until_its_old_name_is_back(group: Group) -> None:
    async def order(ctx: Context) -> Any:
        return await original(ctx)

    async def purchase(ctx: Context) -> Any:
        return await original(ctx)

    before = await group.work(order)
    id = group.begin("order")
    await group.waits(id)
    await before.stop()
    renamed = await group.work(purchase)
    group.settle(f"{id}:2", 7)
    await until(lambda: group.task(id)["version"] > 2)
    assert group.promise(id)["state"] == "pending"
    await renamed.stop()
    await group.work(order)
    assert await group.result(id) == ["packed", 7]
