"""Lease bookkeeping, from the messages between the SDK and a server."""

import asyncio
import logging

import pytest
from resonate.error import ConnectorError, ResonateError
from resonate.send import Sender, TaskRef
from resonate.transport import Transport

from worker.leases import PATIENCE_MS, UNREAD_BYTES

from .exchange import Exchange

PLACES = 4


@pytest.fixture
async def exchange() -> Exchange:
    return Exchange(PLACES)


@pytest.mark.parametrize(
    ("kind", "state", "tags", "is_held"),
    [
        ("task.acquire", "acquired", {}, True),
        ("task.create", "acquired", {}, True),
        ("task.create", "fulfilled", {}, False),
        ("task.acquire", "acquired", {"resonate:timer": "true"}, False),
    ],
    ids=["claimed", "created", "created and done", "of a timer, left to lapse"],
)
async def test_a_granted_lease_is_released(
    exchange: Exchange, kind: str, state: str, tags: dict[str, str], is_held: bool
) -> None:
    exchange.task_state, exchange.tags = state, tags
    await exchange.ask(kind)
    assert await exchange.release_all() == ([("a", 1)] if is_held else [])


@pytest.mark.parametrize("spoiled", ["refused", "unreadable", "for another request", "without a member"])
async def test_a_claim_that_the_sdk_does_not_get_is_not_held(exchange: Exchange, spoiled: str) -> None:
    """Nobody would run the task, and its lease would be kept as long as the worker lived."""
    match spoiled:
        case "refused":
            exchange.statuses["task.acquire"] = 409
        case "unreadable":
            exchange.data["task.acquire"] = "<html>"
        case "for another request":
            exchange.head = {"corrId": "of another request"}
        case "without a member":
            exchange.data["task.acquire"] = exchange.records({"id": "a"})
            del exchange.data["task.acquire"]["promise"]["timeoutAt"]
    with pytest.raises(ResonateError):
        await exchange.claim()
    assert exchange.keeper.leases() == {}


async def test_a_requested_lease_counts_as_held_before_the_answer_is_read(exchange: Exchange) -> None:
    exchange.answers.clear()
    claiming = asyncio.create_task(exchange.claim("a", 3))
    await asyncio.sleep(0)
    assert exchange.keeper.leases() == {"a": 3}
    exchange.answers.set()
    await claiming
    assert exchange.keeper.leases() == {"a": 3}


@pytest.mark.parametrize("kind", ["task.suspend", "task.fulfill", "task.release"])
@pytest.mark.parametrize(("status", "held"), [(200, False), (300, True), (404, False), (409, False), (500, True)])
async def test_what_ends_a_lease(exchange: Exchange, kind: str, status: int, held: bool) -> None:
    await exchange.claim()
    await exchange.end(kind, status)
    exchange.statuses.clear()
    is_held = held and kind != "task.release"
    assert await exchange.release_all() == ([("a", 1)] if is_held else [])
    assert exchange.keeper.leases() == ({"a": 1} if is_held else {})


async def test_a_released_lease_is_no_longer_held_even_if_the_server_is_not_reached(exchange: Exchange) -> None:
    """The SDK tries only once, and nobody runs the task any more, so its lease must not be kept."""
    await exchange.claim()
    exchange.is_away = True
    with pytest.raises(ConnectorError):
        await exchange.end("task.release")
    assert exchange.keeper.leases() == {}


async def test_a_conflict_about_an_older_lease_changes_nothing(exchange: Exchange) -> None:
    await exchange.claim(version=2)
    await exchange.end("task.suspend", 409)
    assert await exchange.release_all() == [("a", 2)]


async def test_a_lease_granted_while_closing_is_released_and_not_used(exchange: Exchange) -> None:
    exchange.answers.clear()
    claiming = asyncio.create_task(exchange.claim())
    await asyncio.sleep(0)
    closing = asyncio.create_task(exchange.keeper.close(3600))
    await asyncio.sleep(0)
    exchange.answers.set()
    await asyncio.wait_for(closing, 20)
    for granted in (claiming, exchange.claim("b")):  # the second one after closing
        with pytest.raises(ConnectorError):
            await granted
    assert await exchange.release_all() == [("a", 1)]


async def test_a_server_that_does_not_answer_does_not_delay_the_end(exchange: Exchange) -> None:
    await exchange.claim()
    exchange.answers.clear()
    fencing = asyncio.create_task(exchange.end("task.fence"))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await exchange.release_all() == []
    fencing.cancel()


@pytest.mark.parametrize(
    ("kind", "id", "status", "told"),
    [
        ("task.acquire", "a", 404, ""),
        ("task.acquire", "a", 409, ""),
        ("task.acquire", "a", 403, "claiming a failed: server error (code=403): no"),
        ("task.create", "", 500, "claiming a task failed: server error (code=500): no"),
    ],
)
async def test_a_refused_claim_is_logged_unless_another_worker_was_first(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, kind: str, id: str, status: int, told: str
) -> None:
    await exchange.ask(kind, status, id=id)
    assert caplog.messages == [told] * bool(told)


@pytest.mark.parametrize("reason", ["no such account", ""])
async def test_a_release_gives_the_reason_why_the_attempt_failed_if_known(exchange: Exchange, reason: str) -> None:
    await exchange.claim()
    if reason:
        exchange.runs.failed(TaskRef(id="a", version=1), reason)
    await exchange.end("task.release")
    assert [data.get("reason") for data in exchange.asked("task.release")] == [reason or None]


@pytest.mark.parametrize(("held", "patience"), [(1, PATIENCE_MS), (2, PATIENCE_MS), (3, None)])
async def test_a_suspending_task_may_stay_a_moment_while_half_of_the_places_are_free(
    exchange: Exchange, held: int, patience: int | None
) -> None:
    for id in "abc"[:held]:
        await exchange.claim(id)
    await exchange.end("task.suspend")
    assert [data.get("patience") for data in exchange.asked("task.suspend")] == [patience]


async def test_the_number_of_leases_that_the_server_took_back_is_returned(exchange: Exchange) -> None:
    for id in "ab":
        await exchange.claim(id)
    sender = Sender(Transport(exchange), None)
    assert await Exchange().keeper.release_all(sender, 10) == 0
    assert await exchange.keeper.release_all(sender, 10) == 2
    exchange.statuses["task.release"] = 500
    assert await exchange.keeper.release_all(sender, 10) == 0


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        ("task.suspend", 200, ["suspended, waits for a.1, a.2"]),
        ("task.suspend", 300, ["suspended, waits for a.1, a.2; continues at once"]),
        ("task.suspend", 409, ["lease lost, leaving the task to others (code=409): no"]),
        ("task.fulfill", 200, ["result: 3"]),
        ("task.fulfill", 500, []),
        ("task.release", 200, ["given back"]),
        ("task.release", 400, ["broken off, and held until its lease ends: no"]),
    ],
)
async def test_the_server_s_answer_to_the_end_of_a_run_is_logged(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, kind: str, status: int, told: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    await exchange.claim()
    exchange.runs.begin("bar", "a", TaskRef(id="a", version=1))
    if kind != "task.suspend":
        exchange.runs.returned("a", 1, 3)
    await exchange.end(kind, status, actions=[{"data": {"awaited": id}} for id in ("a.1", "a.2")])
    ends = [message for message in caplog.messages if message.startswith("ended")]
    assert [message.split("  ")[-1] for message in ends] == told


@pytest.fixture
async def crowded(monkeypatch: pytest.MonkeyPatch) -> Exchange:
    """A worker with room for one large task and a few small ones."""
    monkeypatch.setattr("worker.leases.ROOM_BYTES", UNREAD_BYTES + 5_000)
    return Exchange(PLACES)


async def claim_that_waits(crowded: Exchange) -> asyncio.Task[None]:
    crowded.tags = {"": "x" * 10_000}
    await crowded.claim("large")
    claim = asyncio.create_task(crowded.claim("b"))
    await asyncio.sleep(0)
    assert len(crowded.asked("task.acquire")) == 1
    return claim


async def test_a_claim_waits_while_the_data_of_other_tasks_fills_the_memory_for_it(crowded: Exchange) -> None:
    claim = await claim_that_waits(crowded)
    assert crowded.keeper.shortage.startswith("the arguments of the tasks")
    await crowded.end("task.release", id="large")
    await claim
    assert not crowded.keeper.shortage


async def test_a_claim_that_waits_for_memory_is_given_up_when_the_worker_stops(crowded: Exchange) -> None:
    claim = await claim_that_waits(crowded)
    await crowded.keeper.close(10)
    with pytest.raises(ConnectorError, match="shutting down"):
        await claim
    assert len(crowded.asked("task.acquire")) == 1


async def test_each_claim_counts_as_large_until_it_is_answered_or_refused(crowded: Exchange) -> None:
    crowded.answers.clear()
    claims = [asyncio.create_task(crowded.ask("task.acquire", 409, id=id)) for id in "abc"]
    await asyncio.sleep(0)
    assert crowded.keeper.shortage
    crowded.answers.set()
    await asyncio.gather(*claims)
