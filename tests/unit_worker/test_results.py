"""A call that starts here and whose task runs here: no listener at the server is needed for its result."""

import asyncio
from typing import Any

import pytest

from worker import leases

from .exchange import Exchange
from .group import until

LISTENS = "promise.register_listener"


@pytest.fixture
async def exchange() -> Exchange:
    return Exchange()


async def listen(exchange: Exchange, status: int = 200) -> Any:
    return await exchange.ask(LISTENS, status, awaited="a", address="poll://uni@callers/me")


STORIES: dict[str, tuple[str, str, int, list[str], list[str]]] = {
    # The state of the call at the server, what ends the attempt, the answer to that, the requests that follow it, and
    # the states that the SDK learns.
    "it ends here": ("pending", "task.fulfill", 200, [], ["resolved"]),
    "it goes on here": ("pending", "task.suspend", 300, [], []),
    "it is suspended": ("pending", "task.suspend", 200, [LISTENS], []),
    "it is given back": ("pending", "task.release", 500, [LISTENS], []),
    "its lease is lost": ("pending", "task.fulfill", 409, [LISTENS], []),
    "others have settled it": ("resolved", "task.fulfill", 409, [LISTENS], ["resolved"]),
}


@pytest.mark.parametrize(("state", "end", "status", "next", "told"), STORIES.values(), ids=STORIES)
async def test_a_listener_is_registered_only_once_the_task_has_left(
    exchange: Exchange, state: str, end: str, status: int, next: list[str], told: list[str]
) -> None:
    await exchange.ask("task.create")
    answer = await listen(exchange)
    assert (answer["kind"], answer["head"]) == (LISTENS, {"corrId": f"about {LISTENS}", "status": 200})
    assert answer["data"] == {"promise": exchange.records({})["promise"]}, "as the server's"
    exchange.state = state

    await exchange.end(end, status)
    await until(lambda: exchange.kinds == ["task.create", end, *next])
    for _ in range(5):
        await asyncio.sleep(0)

    assert [(message["kind"], message["data"]["promise"]["state"]) for message in exchange.told] == [
        ("unblock", state) for state in told
    ]


async def test_a_refused_listener_is_left_to_the_sdk_which_asks_again(exchange: Exchange) -> None:
    await exchange.ask("task.create")
    await listen(exchange, 500)
    await exchange.end("task.suspend")
    await until(lambda: exchange.kinds == ["task.create", "task.suspend", LISTENS])
    await asyncio.sleep(0)
    assert exchange.told == []


async def test_a_long_call_may_be_settled_by_others(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LISTEN_SECONDS", 0.01)
    await exchange.ask("task.create")
    await listen(exchange)
    exchange.state = "rejected_canceled"
    await until(lambda: exchange.told)
    assert exchange.told[0]["data"]["promise"]["state"] == "rejected_canceled"
    await exchange.end("task.fulfill")
    assert len(exchange.told) == 1


@pytest.mark.parametrize("begins", [False, True], ids=["runs elsewhere", "is asked for again"])
async def test_a_listener_for_a_call_that_does_not_begin_here_goes_to_the_server(
    exchange: Exchange, begins: bool
) -> None:
    """The SDK asks again from time to time, because a message may have been lost."""
    if begins:
        await exchange.ask("task.create")
        await listen(exchange)
    assert (await listen(exchange))["data"]["promise"]["state"] == "pending"
    assert exchange.kinds == [*["task.create"] * begins, LISTENS]
