"""A call that starts here and whose task runs here: no listener at the server is needed for its result."""

import asyncio
import json
from typing import Any

import pytest

from worker import leases
from worker.leases import LeaseKeeper, OwnResults
from worker.runs import RunLog

from .fake_server import FakeServer, ask
from .group import until


class Server(FakeServer):
    """Grants a task to whoever creates it. `status`: statuses of other answers, by kind."""

    def __init__(self) -> None:
        super().__init__({})
        self.state = "pending"
        self.status: dict[str, int] = {}

    @property
    def kinds(self) -> list[str]:
        return [request["kind"] for request in self.requests]

    def answer(self, kind: str) -> tuple[int, Any]:
        if kind == "task.fulfill" and kind not in self.status:
            self.state = "resolved"
        data = {
            "task": {"id": "a", "version": 1, "state": "acquired"},
            "promise": {"id": "a", "state": self.state, "timeoutAt": 1},
        }
        status = self.status.get(kind, 200)
        return status, data if status < 400 else "no"


class Caller:
    """`told`: what its SDK receives as if from the stream."""

    def __init__(self) -> None:
        self.server = Server()
        self.told: list[Any] = []
        own = OwnResults(self.server.send, lambda message: self.told.append(json.loads(message)))
        self._keeper = LeaseKeeper(self.server, RunLog(), own, places=64)

    async def ask(self, kind: str, **data: Any) -> Any:
        return await ask(self._keeper, kind, **data)

    async def end(self, kind: str) -> None:
        """End the attempt in that way."""
        await self.ask(kind, id="a", version=1)
        await asyncio.sleep(0)

    async def begin(self) -> Any:
        """Start a call `a`; return the answer to its request for a listener."""
        await self.ask("task.create")
        return await self.listen()

    async def listen(self) -> Any:
        return await self.ask("promise.register_listener", awaited="a", address="poll://uni@callers/me")


RESOLVED = {"kind": "unblock", "data": {"promise": {"id": "a", "state": "resolved", "timeoutAt": 1}}}
LISTENS = "promise.register_listener"


@pytest.fixture
async def caller() -> Caller:
    return Caller()


def _promise(message: Any) -> Any:
    return {"kind": message["kind"], "data": {"promise": message["data"]["promise"]}}


async def test_the_answer_is_the_same_as_the_server_s(caller: Caller) -> None:
    answer = await caller.begin()
    head = {"corrId": f"about {LISTENS}", "status": 200}
    assert answer == {
        "kind": LISTENS,
        "head": head,
        "data": {"promise": {"id": "a", "state": "pending", "timeoutAt": 1}},
    }


async def test_a_call_that_ends_here_needs_no_listener(caller: Caller) -> None:
    await caller.begin()
    await caller.end("task.fulfill")
    assert list(map(_promise, caller.told)) == [RESOLVED]
    assert caller.server.kinds == ["task.create", "task.fulfill"]


@pytest.mark.parametrize(("kind", "status"), [("task.suspend", 200), ("task.release", 500), ("task.fulfill", 409)])
async def test_once_the_task_has_left_a_listener_is_registered(caller: Caller, kind: str, status: int) -> None:
    await caller.begin()
    caller.server.status[kind] = status
    await caller.end(kind)
    assert caller.server.kinds == ["task.create", kind, LISTENS]
    assert caller.told == []


async def test_a_call_settled_before_the_listener_was_registered_is_reported(caller: Caller) -> None:
    await caller.begin()
    caller.server.state, caller.server.status["task.fulfill"] = "resolved", 409
    await caller.end("task.fulfill")
    await until(lambda: caller.told)
    assert list(map(_promise, caller.told)) == [RESOLVED]


async def test_a_long_call_may_be_settled_by_others(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LISTEN_SECONDS", 0.01)
    await caller.begin()
    caller.server.state = "rejected_canceled"
    await until(lambda: caller.told)
    assert caller.told[0]["data"]["promise"]["state"] == "rejected_canceled"
    await caller.end("task.fulfill")
    assert len(caller.told) == 1


async def test_a_task_that_continues_here_needs_no_listener(caller: Caller) -> None:
    await caller.begin()
    caller.server.status["task.suspend"] = 300
    await caller.end("task.suspend")
    assert caller.server.kinds == ["task.create", "task.suspend"]


async def test_a_listener_for_a_call_that_runs_elsewhere_goes_to_the_server(caller: Caller) -> None:
    assert (await caller.listen())["data"]["promise"]["state"] == "pending"
    assert caller.server.kinds == [LISTENS]


async def test_a_repeated_request_for_a_listener_goes_to_the_server(caller: Caller) -> None:
    """The SDK does so from time to time, because a message may have been lost."""
    await caller.begin()
    await caller.listen()
    assert caller.server.kinds == ["task.create", LISTENS]


async def test_a_refused_listener_is_left_to_the_next_request(caller: Caller) -> None:
    await caller.begin()
    caller.server.status = {"task.suspend": 200, LISTENS: 500}
    await caller.end("task.suspend")
    caller.server.is_away = True
    assert caller.told == []
    assert caller.server.kinds[-1] == LISTENS
