"""Which promises are preloaded with a task: section 3.4, and section 9, item 9."""

import pytest
from unit.driver import START, Driver, value

from resonate_server.kernel.sizes import MAX_PRELOAD, MAX_PRELOAD_BYTES
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import EMPTY, PromiseState, Value


def ids(answer: Answer) -> list[str]:
    return [promise.id for promise in answer.data.preload]


NAMES = [f"t:step-{number:04}" for number in range(MAX_PRELOAD + 10)]
QUARTER = value("x" * (MAX_PRELOAD_BYTES // 4))

STEPS: dict[str, tuple[list[str], Value, list[str]]] = {
    "all promises of the task's branch, ascending": (["t:2", "t:10", "t:1"], EMPTY, ["t:1", "t:10", "t:2"]),
    "order is by code point": (
        ["t:\U0001f600", "t:\uff5e", "t:z", "t:é"], EMPTY, ["t:z", "t:é", "t:\uff5e", "t:\U0001f600"]
    ),
    "at most so many": (NAMES, EMPTY, NAMES[:MAX_PRELOAD]),
    "at most so many bytes": (NAMES[:10], QUARTER, NAMES[:3]),
}  # fmt: skip
"""Steps of the task, their parameters, and the steps that are preloaded."""


@pytest.mark.parametrize(("steps", "param", "preloaded"), STEPS.values(), ids=STEPS)
def test_which_steps_are_preloaded(server: Driver, steps: list[str], param: Value, preloaded: list[str]) -> None:
    server.create("t", branch="t")
    for id in steps:
        server.create(id, target=None, branch="t", param=param)
    assert ids(server.acquire("t")) == preloaded


@pytest.mark.parametrize("external", ["true", "false"])
def test_as_it_reads_at_the_time_however_late_its_deadline_is_noticed(server: Driver, external: str) -> None:
    server.create("t", branch="t")
    server.create("t:1", target=None, timeout_at=START + 10, branch="t", external=external)
    server.now = START + 20
    [preloaded] = server.acquire("t").data.preload
    assert (preloaded.state, preloaded.settled_at) == (PromiseState.TIMEDOUT, START + 10)


def test_includes_the_task_s_children_whatever_their_branch(server: Driver) -> None:
    server.create("t", branch="t")
    server.create("t:1", branch="t:1", parent="t")
    assert ids(server.acquire("t")) == ["t:1"]


def test_a_promise_that_is_too_large_keeps_no_other_out(server: Driver) -> None:
    server.create("t", branch="t")
    server.create("t:step-1", target=None, branch="t")
    server.settle("t:step-1", result=value("x" * MAX_PRELOAD_BYTES))
    server.create("t:step-2", target=None, branch="t")
    assert ids(server.acquire("t")) == ["t:step-2"]
