"""The data of the answer to each kind of request that succeeds."""

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
