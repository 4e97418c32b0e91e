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

    async def listen(self) -> Any:
        return await self.ask("promise.register_listener", awaited="a", address="poll://uni@callers/me")


LISTENS = "promise.register_listener"


@pytest.fixture
async def caller() -> Caller:
    return Caller()


STORIES: dict[str, tuple[str, dict[str, int], str, list[str]]] = {
    # The state of the call at the server, how that answers, what ends the attempt, the states that the SDK learns.
    "it ends here": ("pending", {}, "task.fulfill", ["resolved"]),
    "it goes on here": ("pending", {"task.suspend": 300}, "task.suspend", []),
    "it is suspended": ("pending", {}, f"task.suspend {LISTENS}", []),
    "it is given back": ("pending", {"task.release": 500}, f"task.release {LISTENS}", []),
    "its lease is lost": ("pending", {"task.fulfill": 409}, f"task.fulfill {LISTENS}", []),
    "others have settled it": ("resolved", {"task.fulfill": 409}, f"task.fulfill {LISTENS}", ["resolved"]),
    "the listener is refused, until the SDK asks again": ("pending", {LISTENS: 500}, f"task.suspend {LISTENS}", []),
}


@pytest.mark.parametrize(("state", "status", "requests", "told"), STORIES.values(), ids=STORIES)
async def test_a_listener_is_registered_only_once_the_task_has_left(
    caller: Caller, state: str, status: dict[str, int], requests: str, told: list[str]
) -> None:
    await caller.ask("task.create")
    answer = await caller.listen()
    assert (answer["kind"], answer["head"]) == (LISTENS, {"corrId": f"about {LISTENS}", "status": 200})
    assert answer["data"] == {"promise": {"id": "a", "state": "pending", "timeoutAt": 1}}, "as the server's"
    caller.server.state, caller.server.status = state, status

    await caller.ask(requests.partition(" ")[0], id="a", version=1)
    await until(lambda: caller.server.kinds == ["task.create", *requests.split()])
    await asyncio.sleep(0)

    assert [(message["kind"], message["data"]["promise"]["state"]) for message in caller.told] == [
        ("unblock", state) for state in told
    ]


async def test_a_long_call_may_be_settled_by_others(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LISTEN_SECONDS", 0.01)
    await caller.ask("task.create")
    await caller.listen()
    caller.server.state = "rejected_canceled"
    await until(lambda: caller.told)
    assert caller.told[0]["data"]["promise"]["state"] == "rejected_canceled"
    await caller.ask("task.fulfill", id="a", version=1)
    assert len(caller.told) == 1


@pytest.mark.parametrize("begins", [False, True], ids=["runs elsewhere", "is asked for again"])
async def test_a_listener_for_a_call_that_does_not_begin_here_goes_to_the_server(caller: Caller, begins: bool) -> None:
    """The SDK asks again from time to time, because a message may have been lost."""
    if begins:
        await caller.ask("task.create")
        await caller.listen()
    assert (await caller.listen())["data"]["promise"]["state"] == "pending"
    assert caller.server.kinds == [*["task.create"] * begins, LISTENS]
