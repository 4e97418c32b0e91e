"""Lease bookkeeping, from the messages between the SDK and a server."""

import asyncio
import logging
from typing import Any

import pytest
from resonate.error import ConnectorError, ResonateError
from resonate.send import Sender, TaskRef
from resonate.transport import Transport

from worker.leases import PATIENCE_MS, LeaseKeeper, OwnResults
from worker.room import UNREAD_BYTES
from worker.runs import RunLog

from .fake_server import FakeServer, ask

PLACES = 4


class Server(FakeServer):
    """Accepts what is released."""

    def __init__(self) -> None:
        super().__init__({"task.release": (200, {})})

    @property
    def released(self) -> list[tuple[str, int]]:
        return [(data["id"], data["version"]) for data in self.asked("task.release")]

    def grant(self, id: str, version: int, state: str = "acquired", tags: dict[str, str] | None = None) -> None:
        task = {"id": id, "state": state, "version": version}
        promise = {"id": id, "state": "pending", "timeoutAt": 1, "tags": tags or {}}
        claim = {"task": task, "promise": promise, "preload": []}
        self.answers["task.acquire"] = self.answers["task.create"] = (200, claim)


class Network:
    """A lease keeper between the SDK's sender and a server."""

    def __init__(self) -> None:
        self.server = Server()
        self.runs = RunLog()
        results = OwnResults(self.server.send, lambda _: None)
        self.keeper = LeaseKeeper(self.server, self.runs, results, PLACES)
        self.sender = Sender(Transport(self.keeper), None)

    async def acquire(self, id: str = "a", version: int = 1, tags: dict[str, str] | None = None) -> None:
        self.server.grant(id, version, tags=tags)
        await self.sender.task_acquire(id, version - 1, "me", 1000)

    async def send(self, kind: str, id: str = "a", version: int = 1, **more: Any) -> None:
        await ask(self.keeper, kind, id=id, version=version, **more)

    async def release_all(self) -> list[tuple[str, int]]:
        """Release everything, and return what was released."""
        await self.keeper.close(0.05)
        await self.keeper.release_all(Sender(Transport(self.server), None), 0.2)
        return self.server.released


@pytest.fixture
async def network() -> Network:
    return Network()


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
    network: Network, kind: str, state: str, tags: dict[str, str], is_held: bool
) -> None:
    network.server.grant("a", 1, state, tags)
    await network.send(kind)
    assert await network.release_all() == ([("a", 1)] if is_held else [])


@pytest.mark.parametrize("spoiled", ["refused", "unreadable", "for another request", "without a member"])
async def test_a_claim_that_the_sdk_does_not_get_is_not_held(network: Network, spoiled: str) -> None:
    """Nobody would run the task, and its lease would be kept as long as the worker lived."""
    network.server.grant("a", 1)
    match spoiled:
        case "refused":
            network.server.answers["task.acquire"] = (409, "version differs")
        case "unreadable":
            network.server.answers["task.acquire"] = (200, "<html>")
        case "for another request":
            network.server.head = {"corrId": "of another request"}
        case "without a member":
            del network.server.answers["task.acquire"][1]["promise"]["timeoutAt"]
    with pytest.raises(ResonateError):
        await network.sender.task_acquire("a", 0, "me", 1000)
    assert network.keeper.leases() == {}


async def test_a_requested_lease_counts_as_held_before_the_answer_is_read(network: Network) -> None:
    network.server.answering.clear()
    acquiring = asyncio.create_task(network.acquire("a", 3))
    await asyncio.sleep(0)
    assert network.keeper.leases() == {"a": 3}
    network.server.answering.set()
    await acquiring
    assert network.keeper.leases() == {"a": 3}


@pytest.mark.parametrize("kind", ["task.suspend", "task.fulfill", "task.release"])
@pytest.mark.parametrize(("status", "held"), [(200, False), (300, True), (404, False), (409, False), (500, True)])
async def test_what_ends_a_lease(network: Network, kind: str, status: int, held: bool) -> None:
    await network.acquire()
    network.server.answers[kind] = (status, {})
    await network.send(kind)
    network.server.answers["task.release"] = (200, {})
    network.server.requests.clear()
    is_held = held and kind != "task.release"
    assert await network.release_all() == ([("a", 1)] if is_held else [])
    assert network.keeper.leases() == ({"a": 1} if is_held else {})


async def test_a_released_lease_is_no_longer_held_even_if_the_server_is_not_reached(network: Network) -> None:
    """The SDK tries only once, and nobody runs the task any more, so its lease must not be kept."""
    await network.acquire()
    network.server.is_away = True
    with pytest.raises(ConnectorError):
        await network.send("task.release")
    assert network.keeper.leases() == {}


async def test_a_conflict_about_an_older_lease_changes_nothing(network: Network) -> None:
    await network.acquire(version=2)
    network.server.answers["task.suspend"] = (409, "version differs")
    await network.send("task.suspend", version=1)
    assert await network.release_all() == [("a", 2)]


async def test_a_lease_granted_while_closing_is_released_and_not_used(network: Network) -> None:
    network.server.answering.clear()
    acquiring = asyncio.create_task(network.acquire())
    await asyncio.sleep(0)
    closing = asyncio.create_task(network.keeper.close(1))
    await asyncio.sleep(0)
    network.server.answering.set()
    await closing
    for granted in (acquiring, network.acquire("b")):  # the second one after closing
        with pytest.raises(ConnectorError):
            await granted
    assert await network.release_all() == [("a", 1)]


async def test_a_server_that_does_not_answer_does_not_delay_the_end(network: Network) -> None:
    await network.acquire()
    network.server.answering.clear()
    fencing = asyncio.create_task(network.send("task.fence"))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await network.release_all() == []
    fencing.cancel()


@pytest.mark.parametrize(
    ("kind", "id", "status", "told"),
    [
        ("task.acquire", "a", 404, ""),
        ("task.acquire", "a", 409, ""),
        ("task.acquire", "a", 403, "claiming a failed: server error (code=403): no, you may not"),
        ("task.create", "", 500, "claiming a task failed: server error (code=500): no, you may not"),
    ],
)
async def test_a_refused_claim_is_logged_unless_another_worker_was_first(
    network: Network, caplog: pytest.LogCaptureFixture, kind: str, id: str, status: int, told: str
) -> None:
    network.server.answers[kind] = (status, "no, you may not")
    await network.send(kind, id)
    assert caplog.messages == [told] * bool(told)


@pytest.mark.parametrize("reason", ["no such account", ""])
async def test_a_release_gives_the_reason_why_the_attempt_failed_if_known(network: Network, reason: str) -> None:
    await network.acquire("a", 1)
    if reason:
        network.runs.failed(TaskRef(id="a", version=1), reason)
    await network.send("task.release", "a", 1)
    assert [data.get("reason") for data in network.server.asked("task.release")] == [reason or None]


@pytest.mark.parametrize(("held", "patience"), [(1, PATIENCE_MS), (2, PATIENCE_MS), (3, None)])
async def test_a_suspending_task_may_stay_a_moment_while_half_of_the_places_are_free(
    network: Network, held: int, patience: int | None
) -> None:
    for id in "abc"[:held]:
        await network.acquire(id)
    network.server.answers["task.suspend"] = (200, {})
    await network.send("task.suspend")
    assert [data.get("patience") for data in network.server.asked("task.suspend")] == [patience]


async def test_the_number_of_leases_that_the_server_took_back_is_returned(network: Network) -> None:
    for id in "ab":
        await network.acquire(id)
    sender = Sender(Transport(network.server), None)
    assert await Network().keeper.release_all(sender, 10) == 0
    assert await network.keeper.release_all(sender, 10) == 2
    network.server.answers["task.release"] = (500, "disk full")
    assert await network.keeper.release_all(sender, 10) == 0


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
    network: Network, caplog: pytest.LogCaptureFixture, kind: str, status: int, told: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    await network.acquire()
    network.runs.begin("bar", "a", TaskRef(id="a", version=1))
    if kind != "task.suspend":
        network.runs.returned("a", 1, 3)
    network.server.answers[kind] = (status, "no")
    awaited = [{"kind": "promise.register_callback", "data": {"awaited": id, "awaiter": "a"}} for id in ("a.1", "a.2")]
    await network.send(kind, actions=awaited)
    ends = [message for message in caplog.messages if message.startswith("ended")]
    assert [message.split("  ")[-1] for message in ends] == told


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network for a worker that has room for one large task and a few small ones."""
    monkeypatch.setattr("worker.room.ROOM_BYTES", UNREAD_BYTES + 5_000)
    return Network()


async def test_a_claim_waits_while_the_data_of_other_tasks_fills_the_memory_for_it(little_room: Network) -> None:
    await little_room.acquire("large", tags={"": "x" * 10_000})
    claim = asyncio.create_task(little_room.acquire("b"))
    await asyncio.sleep(0)
    assert little_room.keeper.shortage.startswith("the arguments of the tasks")
    assert len(little_room.server.asked("task.acquire")) == 1
    await little_room.send("task.release", "large")
    await claim
    assert not little_room.keeper.shortage


async def test_a_claim_that_waits_for_memory_is_given_up_when_the_worker_stops(little_room: Network) -> None:
    await little_room.acquire("large", tags={"": "x" * 10_000})
    claim = asyncio.create_task(little_room.acquire("b"))
    await asyncio.sleep(0)
    await little_room.keeper.close(10)
    with pytest.raises(ConnectorError, match="shutting down"):
        await claim
    assert len(little_room.server.asked("task.acquire")) == 1


async def test_each_claim_counts_as_large_until_it_is_answered_or_refused(little_room: Network) -> None:
    little_room.server.answering.clear()
    little_room.server.answers["task.acquire"] = (409, "claimed by another worker")
    claims = [asyncio.create_task(little_room.send("task.acquire", id)) for id in "abc"]
    await asyncio.sleep(0)
    assert little_room.keeper.shortage
    little_room.server.answering.set()
    await asyncio.gather(*claims)
