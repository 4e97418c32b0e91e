"""What an answer shows, it shows whole, also where the payloads are not at hand: larger ones stay in the store."""

from collections.abc import Callable

import pytest
from unit.driver import Driver, promise_create, promise_settle, value
from unit.rows import promise

from resonate_server.kernel.model import Unread
from resonate_server.kernel.preload import is_read
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import PromiseState, Value
from resonate_server.protocol.requests import PromiseCreate, PromiseSettle

PARAM, RESULT = value("p" * 100_000), value("r" * 100_000)
ADDRESS = "poll://uni@callers/caller-1"


@pytest.fixture
def server() -> Driver:
    """``p`` waits for a worker, ``held`` has one, and ``settled`` is."""
    server = Driver()
    for id in ("p", "held", "settled"):
        server.create(id, param=PARAM)
    server.acquire("held")
    server.settle("settled", result=RESULT)
    return server


SHOWS: dict[str, Callable[[Driver], Answer]] = {
    "get": lambda server: server.get("p"),
    "create": lambda server: server.create("p"),
    "settle": lambda server: server.settle("p"),
    "register callback": lambda server: server.register_callback("p", "held"),
    "register listener": lambda server: server.register_listener("p", ADDRESS),
    "create a task": lambda server: server.create_task(promise_create("p")),
    "acquire": lambda server: server.acquire("p"),
    "fulfill": lambda server: server.fulfill("held", 1),
}


@pytest.mark.parametrize("ask", SHOWS.values(), ids=SHOWS)
def test_a_promise(server: Driver, ask: Callable[[Driver], Answer]) -> None:
    answer = ask(server)
    assert answer.status == 200
    assert answer.data.promise.param == PARAM


AGAIN: dict[str, Callable[[Driver], Answer]] = {
    "get": lambda server: server.get("settled"),
    "create": lambda server: server.create("settled"),
    "settle": lambda server: server.settle("settled"),
    "register callback": lambda server: server.register_callback("settled", "held"),
    "register listener": lambda server: server.register_listener("settled", ADDRESS),
    "create a task": lambda server: server.create_task(promise_create("settled")),
}


@pytest.mark.parametrize("ask", AGAIN.values(), ids=AGAIN)
def test_a_settled_promise(server: Driver, ask: Callable[[Driver], Answer]) -> None:
    shown = ask(server).data.promise
    assert (shown.state, shown.param, shown.value) == (PromiseState.RESOLVED, PARAM, RESULT)


@pytest.mark.parametrize("request_of", [promise_create, promise_settle])
@pytest.mark.parametrize("id", ["p", "settled"])
def test_a_promise_in_an_inner_answer(
    server: Driver, request_of: Callable[[str], PromiseCreate | PromiseSettle], id: str
) -> None:
    answer = server.fence("held", 1, request_of(id))
    assert answer.data.action.data.promise.param == PARAM


@pytest.mark.parametrize("way", ["acquire", "suspend", "fence create", "fence settle", "create a task"])
def test_the_steps_that_come_along_with_a_task(way: str) -> None:
    server = Driver()
    server.create("t", branch="t")
    server.create("t:step", target=None, branch="t", param=PARAM)
    server.create("other", target=None)
    server.settle("other")
    if way not in ("acquire", "create a task"):
        server.acquire("t")

    answer = {
        "acquire": lambda: server.acquire("t"),
        "suspend": lambda: server.suspend("t", 1, "other"),
        "fence create": lambda: server.fence("t", 1, promise_create("other")),
        "fence settle": lambda: server.fence("t", 1, promise_settle("other")),
        "create a task": lambda: server.create_task(promise_create("t")),
    }[way]()

    assert [(step.id, step.param) for step in answer.data.preload] == [("t:step", PARAM)]


def test_a_result_that_a_listener_is_told(server: Driver) -> None:
    server.register_listener("p", ADDRESS)
    server.settle("p", result=RESULT)
    [unblock] = server.take_unblocks()
    assert (unblock.promise.param, unblock.promise.value) == (PARAM, RESULT)


@pytest.mark.parametrize(
    ("param", "result", "expected"),
    [
        (PARAM, RESULT, True),
        (Unread(size=1), RESULT, False),
        (PARAM, Unread(size=1), False),
        (Unread(size=1), Unread(size=1), False),
    ],
)
def test_a_promise_is_read_if_both_payloads_are(param: Value, result: Value, expected: bool) -> None:
    assert is_read(promise("p", param=param, value=result)) is expected
