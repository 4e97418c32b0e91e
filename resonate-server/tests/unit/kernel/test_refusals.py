"""Requests refused because of the current state, and that a refused request leaves no trace: sections 2.2 and 3."""

from collections.abc import Callable
from typing import Any

import pytest
from unit.driver import OTHER_PID, Driver, promise_create, promise_settle
from unit.rows import snapshot, transaction

from resonate_server.protocol.answers import Answer

type Ask = Callable[[Driver], Answer]


@pytest.fixture
def server(server: Driver) -> Driver:
    """Two trees: ``x``, whose root is acquired, and ``y``; and a promise ``free`` without a tree."""
    for root in ("x", "y"):
        server.create(root, origin=root, branch=root, parent=root)
        server.create(f"{root}:1", origin=root, branch=root, parent=root)
        server.create(f"{root}:asked", target=None, origin=root)
        server.create(f"{root}:step", target=None, origin=root, external="false")
    server.create("free", target=None)
    for id, external in (("done", "true"), ("x:over", "false")):
        server.create(id, target=None, external=external)
        server.settle(id)
    server.create("x.d1", origin="x.d1")
    server.acquire("x", 0)
    server.forget_messages()
    return server


# --- who may await and act upon what --------------------------------------------------------------------------------

WITHIN_REACH = {
    "its own tree": "x:asked",
    "the root of another tree, as the TypeScript SDK's calls with an id of their own": "y",
    "a detached call of SDK 0.7.4, a root too": "x.d1",
    "what belongs to no tree": "free",
}


@pytest.mark.parametrize("awaited", WITHIN_REACH.values(), ids=WITHIN_REACH)
def test_a_task_may_await(server: Driver, awaited: str) -> None:
    assert server.register_callback(awaited, "x:1").status == 200
    assert server.suspend("x", 1, awaited).status == 200


@pytest.mark.parametrize("settled", WITHIN_REACH.values(), ids=WITHIN_REACH)
def test_a_fence_may_act_upon(server: Driver, settled: str) -> None:
    assert server.fence("x", 1, promise_settle(settled)).status == 200


def test_a_call_within_another_tree_is_out_of_reach_settled_or_not(server: Driver) -> None:
    for _ in range(2):
        answers = [
            server.suspend("x", 1, "y:asked"),
            server.register_callback("y:asked", "x:1"),
            server.fence("x", 1, promise_settle("y:asked")),
            server.fence("x", 1, promise_create("y:asked")),
        ]
        assert [answer.status for answer in answers] == [422] * 4
        assert all("tree of y, not of x" in answer.data for answer in answers)
        server.settle("y:asked")


def test_a_task_may_await_and_act_upon_calls_that_name_it_as_their_root(server: Driver) -> None:
    """A Rust worker takes every function that it runs for a root."""
    server.create("x:1.0", origin="x:1")
    server.acquire("x:1", 0)
    assert server.register_callback("x:1.0", "x:1").status == 200
    assert server.fence("x:1", 1, promise_create("x:1.0", origin="x:1")).status == 200
    assert server.suspend("x:1", 1, "x:1.0").status == 200


def test_a_promise_without_a_tree_may_await_any(server: Driver) -> None:
    server.create("caller")
    assert server.register_callback("y:asked", "caller").status == 200


# --- nothing of it stays --------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[int, Ask]] = {
    "get a missing one": (404, lambda server: server.get("missing")),
    "get the task of a missing one": (404, lambda server: server.get_task("missing")),
    "get the task of one without": (404, lambda server: server.get_task("free")),
    "acquire a missing one": (404, lambda server: server.acquire("missing")),
    "acquire the task of one without": (404, lambda server: server.acquire("free")),
    "release a missing one": (404, lambda server: server.release("missing", 1)),
    "fulfill a missing one": (404, lambda server: server.fulfill("missing", 1)),
    "halt a missing one": (404, lambda server: server.halt("missing")),
    "halt the task of one without": (404, lambda server: server.halt("free")),
    "continue a missing one": (404, lambda server: server.continue_("missing")),
    "settle a missing one": (404, lambda server: server.settle("missing")),
    "listen to a missing one": (404, lambda server: server.register_listener("missing", "poll://any@callers")),
    "listen to an internal one": (422, lambda server: server.register_listener("x:step", "poll://any@callers")),
    "listen to a settled internal one": (422, lambda server: server.register_listener("x:over", "poll://any@callers")),
    "call back to a missing one": (404, lambda server: server.register_callback("missing", "x:1")),
    "call back to and from missing ones": (404, lambda server: server.register_callback("missing", "gone")),
    "call back from one without a task": (422, lambda server: server.register_callback("x:asked", "free")),
    "call back from an internal one that is settled": (422, lambda server: server.register_callback("x:over", "x:1")),
    "call back from a missing one": (422, lambda server: server.register_callback("x:asked", "missing")),
    "call back from an internal one": (422, lambda server: server.register_callback("x:step", "x:1")),
    "call back from another tree": (422, lambda server: server.register_callback("y:asked", "x:1")),
    "suspend on one good and a missing one": (422, lambda server: server.suspend("x", 1, "x:1", "missing")),
    "suspend on a missing and a good one": (422, lambda server: server.suspend("x", 1, "missing", "x:1")),
    "suspend on one good and an internal one": (422, lambda server: server.suspend("x", 1, "x:1", "x:step")),
    "suspend on one good and one of another tree": (422, lambda server: server.suspend("x", 1, "x:1", "y:asked")),
    "suspend on a settled and a missing one": (422, lambda server: server.suspend("x", 1, "done", "missing")),
    "suspend what is not held on a missing one": (409, lambda server: server.suspend("y", 0, "missing")),
    "suspend at another version": (409, lambda server: server.suspend("x", 2, "x:1")),
    "suspend what is not held": (409, lambda server: server.suspend("y", 0, "y:asked")),
    "suspend a missing one": (404, lambda server: server.suspend("missing", 1, "x:1")),
    "fence a new one at another version": (409, lambda server: server.fence("x", 2, promise_create("x:2"))),
    "fence a new one by a missing task": (404, lambda server: server.fence("missing", 1, promise_create("x:2"))),
    "fence a settlement in another tree": (422, lambda server: server.fence("x", 1, promise_settle("y:asked"))),
    "fence a settlement without holding": (409, lambda server: server.fence("y", 0, promise_settle("y:asked"))),
    "create the task of a settled one without": (422, lambda server: server.create_task(promise_create("done"))),
    "create the task of one without": (422, lambda server: server.create_task(promise_create("free"))),
    "create a task that is held": (409, lambda server: server.create_task(promise_create("x"), pid=OTHER_PID)),
    "acquire what is held": (409, lambda server: server.acquire("x", 1, pid=OTHER_PID)),
    "fulfill at another version": (409, lambda server: server.fulfill("x", 2)),
    "release at another version": (409, lambda server: server.release("x", 2)),
    "continue what is not halted": (409, lambda server: server.continue_("x")),
}


def everything(server: Driver) -> dict[str, Any]:
    with transaction(server.store):
        return snapshot(server.store)


@pytest.mark.parametrize(("status", "ask"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_changes_nothing_and_tells_nobody(server: Driver, status: int, ask: Ask) -> None:
    before = everything(server)
    answer = ask(server)
    assert everything(server) == before
    assert (answer.status, type(answer.data)) == (status, str)
    assert server.sent == []


def test_a_refused_action_of_a_fence_shows_in_the_inner_answer_and_leaves_no_trace(server: Driver) -> None:
    before = everything(server)
    answer = server.fence("x", 1, promise_settle("missing"))
    assert everything(server) == before
    assert (answer.status, answer.data.action.head.status) == (200, 404)
    assert (answer.data.action.kind, type(answer.data.action.data)) == ("promise.settle", str)
