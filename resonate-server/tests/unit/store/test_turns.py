"""Whose turn it is on PostgreSQL."""

import asyncio

import pytest

from resonate_server.store.postgres.turns import Turns


async def stay(turns: Turns) -> None:
    async with turns.alone():
        await asyncio.sleep(3_600)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 2), (2, 1, 0)])
async def test_who_is_cancelled_in_the_moment_of_its_turn_holds_up_nobody(order: tuple[int, ...]) -> None:
    turns = Turns()
    tasks = [asyncio.create_task(stay(turns)) for _ in order]
    await asyncio.sleep(0)

    for number in order:
        tasks[number].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in ends] == [asyncio.CancelledError] * len(order)
    async with asyncio.timeout(60), turns.alone():
        pass
