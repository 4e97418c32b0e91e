"""Answers show payloads whole, even those that are not in memory, because larger ones stay in the store."""

from collections.abc import Callable

import pytest
from unit.driver import Driver, promise_create, value

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import PromiseState

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
