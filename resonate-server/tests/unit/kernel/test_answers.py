"""The data of the answer to each kind of request that succeeds. It shows payloads whole, even those that are not in
memory, because larger ones stay in the store."""

from collections.abc import Callable
from typing import Any

import pytest
from unit.driver import TARGET, Driver, promise_create, promise_settle, value

from resonate_server.protocol.answers import (
    Answer,
    ClaimData,
    FencedData,
    Nothing,
    PreloadData,
    PromiseData,
    ScheduleData,
    TaskData,
)
from resonate_server.protocol.records import PromiseState
from resonate_server.protocol.requests import ScheduleCreate, ScheduleDelete, ScheduleGet


@pytest.fixture
def server() -> Driver:
    """Tasks and promises for the requests, each named after its state."""
    server = Driver()
    server.pending("pending")
    server.acquired("acquired")
    server.halted("halted")
    server.fulfilled("settled")
    server.create("dep", target=None)
    server.call(schedule("s"))
    return server


def schedule(id: str) -> ScheduleCreate:
    return ScheduleCreate(id, "* * * * *", "{{.id}}", 1, value(""), {"resonate:target": TARGET})


ASKED: dict[str, tuple[Callable[[Driver], Answer], int, Any]] = {
    "promise.get": (lambda server: server.get("pending"), 200, PromiseData),
    "promise.create": (lambda server: server.create("new"), 200, PromiseData),
    "promise.settle": (lambda server: server.settle("pending"), 200, PromiseData),
    "promise.register_callback": (lambda server: server.register_callback("dep", "acquired"), 200, PromiseData),
    "promise.register_listener": (lambda server: server.register_listener("dep", "poll://uni@g/1"), 200, PromiseData),
    "task.get": (lambda server: server.get_task("pending"), 200, TaskData),
    "task.create": (lambda server: server.create_task(promise_create("new")), 200, ClaimData),
    "task.create of one that waits": (lambda server: server.create_task(promise_create("pending")), 200, ClaimData),
    "task.create of one that is over": (lambda server: server.create_task(promise_create("settled")), 200, ClaimData),
    "task.acquire": (lambda server: server.acquire("pending"), 200, ClaimData),
    "task.release": (lambda server: server.release("acquired", 1), 200, Nothing),
    "task.fulfill": (lambda server: server.fulfill("acquired", 1), 200, PromiseData),
    "task.suspend": (lambda server: server.suspend("acquired", 1, "dep"), 200, Nothing),
    "task.suspend on what is settled": (lambda server: server.suspend("acquired", 1, "settled"), 300, PreloadData),
    "task.fence create": (lambda server: server.fence("acquired", 1, promise_create("new")), 200, FencedData),
    "task.fence settle": (lambda server: server.fence("acquired", 1, promise_settle("dep")), 200, FencedData),
    "task.heartbeat": (lambda server: server.heartbeat(("acquired", 1)), 200, Nothing),
    "task.halt": (lambda server: server.halt("pending"), 200, Nothing),
    "task.continue": (lambda server: server.continue_("halted"), 200, Nothing),
    "schedule.get": (lambda server: server.call(ScheduleGet("s")), 200, ScheduleData),
    "schedule.create": (lambda server: server.call(schedule("new")), 200, ScheduleData),
    "schedule.delete": (lambda server: server.call(ScheduleDelete("s")), 200, Nothing),
}


@pytest.mark.parametrize(("ask", "status", "data"), ASKED.values(), ids=ASKED)
def test_the_answer(server: Driver, ask: Callable[[Driver], Answer], status: int, data: Any) -> None:
    answer = ask(server)
    assert (answer.status, type(answer.data)) == (status, data)


# --- payloads -------------------------------------------------------------------------------------------------------

PARAM, RESULT = value("p" * 100_000), value("r" * 100_000)
ADDRESS = "poll://uni@callers/caller-1"


@pytest.fixture
def with_payloads() -> Driver:
    """``p`` waits for a worker, ``held`` has one, and ``settled`` is settled."""
    server = Driver()
    for id in ("p", "held", "settled"):
        server.create(id, param=PARAM)
    server.acquire("held")
    server.settle("settled", result=RESULT)
    return server


AGAIN: dict[str, Callable[[Driver], Answer]] = {
    "get": lambda server: server.get("settled"),
    "create": lambda server: server.create("settled"),
    "settle": lambda server: server.settle("settled"),
    "register callback": lambda server: server.register_callback("settled", "held"),
    "register listener": lambda server: server.register_listener("settled", ADDRESS),
    "create a task": lambda server: server.create_task(promise_create("settled")),
}


@pytest.mark.parametrize("ask", AGAIN.values(), ids=AGAIN)
def test_a_settled_promise(with_payloads: Driver, ask: Callable[[Driver], Answer]) -> None:
    shown = ask(with_payloads).data.promise
    assert (shown.state, shown.param, shown.value) == (PromiseState.RESOLVED, PARAM, RESULT)


PRELOADED: dict[str, tuple[str, Callable[[Driver], Answer]]] = {
    "acquire": ("pending", lambda server: server.acquire("t")),
    "create a task": ("pending", lambda server: server.create_task(promise_create("t"))),
    "suspend": ("acquired", lambda server: server.suspend("t", 1, "other")),
    "fence create": ("acquired", lambda server: server.fence("t", 1, promise_create("other"))),
    "fence settle": ("acquired", lambda server: server.fence("t", 1, promise_settle("other"))),
}


@pytest.mark.parametrize(("state", "ask"), PRELOADED.values(), ids=PRELOADED)
def test_the_steps_that_are_preloaded_with_a_task(state: str, ask: Callable[[Driver], Answer]) -> None:
    server = Driver()
    server.create("t", branch="t")
    server.create("t:step", target=None, branch="t", param=PARAM)
    server.create("other", target=None)
    server.settle("other")
    getattr(server, state)("t")
    assert [(step.id, step.param) for step in ask(server).data.preload] == [("t:step", PARAM)]


def test_a_result_that_is_sent_to_a_listener(with_payloads: Driver) -> None:
    with_payloads.register_listener("p", ADDRESS)
    with_payloads.settle("p", result=RESULT)
    [unblock] = with_payloads.take_unblocks()
    assert (unblock.promise.param, unblock.promise.value) == (PARAM, RESULT)
