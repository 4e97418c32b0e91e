"""What the server does without a request: which rows it concerns, and that it sends no answer."""

from collections.abc import Callable

import pytest
from unit.driver import HOUR, LEASE, OTHER_PID, RETRY, START, Driver
from unit.stories import happen

from resonate_server import kernel
from resonate_server.engine.reports import failing_tasks
from resonate_server.kernel.model import Footprint, Rule, Rules
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.messages import Execute
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import MAX_INTEGER

RULES = Rules(retry_timeout_ms=RETRY)


@pytest.fixture
def server() -> Driver:
    """A task in each state, named after it, and one that is held by another process."""
    server = Driver(rules=RULES)
    server.pending("pending")
    server.acquired("acquired")
    server.acquired("another's", pid=OTHER_PID)
    server.suspended("suspended", "dep")
    server.halted("halted")
    server.fulfilled("fulfilled")
    return server


TASKS = ["pending", "acquired", "another's", "suspended", "halted", "fulfilled", "missing"]


def executes() -> list[Execute]:
    return [Execute(task_id=id, version=version, target="") for version in (0, 1) for id in TASKS]


@pytest.mark.parametrize(
    ("question", "concerned"),
    [
        (lambda: kernel.releasing("workers", "pid-1", tuple(TASKS), RULES), {"acquired"}),
        (lambda: kernel.setting_aside(executes(), RULES), {"pending"}),
        (lambda: kernel.recalling(tuple(TASKS), RULES), set()),
        (lambda: kernel.renewing(tuple(TASKS), RULES, HOUR), {"acquired", "another's"}),
    ],
    ids=["releasing", "setting aside", "recalling", "renewing"],
)
def test_own_work_concerns_some_tasks_and_answers_nothing(
    server: Driver, question: Callable[[], tuple[Footprint, Rule]], concerned: set[str]
) -> None:
    server.now += 1
    decision = server.decide(*question())
    assert set(decision.changes.tasks) == concerned
    assert decision.changes.promises == {}
    assert decision.answer == Answer(status=200, data=Nothing())


@pytest.mark.parametrize(("passed", "expected"), [(1, set()), (LEASE, {"acquired", "another's"})])
def test_due_work_concerns_the_due_rows_and_answers_whether_there_were_any(
    server: Driver, passed: int, expected: set[str]
) -> None:
    server.now += passed
    decision = server.decide(*kernel.due(RULES))
    assert set(decision.changes.tasks) == expected
    assert decision.answer == Answer(status=200, data=bool(expected))


def test_due_work_that_is_decided_too_late_changes_nothing_and_says_so(server: Driver) -> None:
    server.now += LEASE
    assert server.decide(*kernel.due(RULES, not_after=server.now)).answer.data is True
    decision = server.decide(*kernel.due(RULES, not_after=server.now - 1))
    assert decision.changes.tasks == {}
    assert decision.answer == Answer(status=200, data=None)


def test_only_tasks_that_were_set_aside_are_recalled(server: Driver) -> None:
    server.set_aside("pending", 0)
    decision = server.decide(*kernel.recalling(tuple(TASKS), RULES))
    assert [(task.id, task.queued) for task in decision.changes.tasks.values()] == [("pending", True)]


@pytest.mark.parametrize(
    ("lost", "end"), [(HOUR - 100, HOUR - 100 + LEASE), (2 * HOUR, HOUR + LEASE), (MAX_INTEGER, HOUR + LEASE)]
)
def test_a_lease_lasts_longer_by_the_time_lost_at_most_it_starts_again(server: Driver, lost: int, end: int) -> None:
    server.now += HOUR
    decision = server.decide(*kernel.renewing(("acquired",), RULES, lost))
    after = decision.changes.tasks["acquired"]
    assert (after.timer_at, after.state) == (START + end, TaskState.ACQUIRED)
    assert (after.version, after.pid) == (1, "pid-1")
    assert decision.messages == []


@pytest.mark.parametrize(
    ("count", "give_up"),
    [("unclaimed", f"set_aside t 0; wait {HOUR}"), ("releases", "acquire t {before}; release t {times}")],
)
def test_a_task_that_no_worker_can_run_is_reported_each_time_the_count_doubles(count: str, give_up: str) -> None:
    server = Driver()
    server.create("t")
    told = []
    for times in range(1, 9):
        happen(server, give_up.format(before=times - 1, times=times))
        told += [task for each in server.decided for task in failing_tasks(each)]
        server.forget_messages()

    assert [getattr(task, count) for task in told] == [2, 4, 8]


@pytest.mark.parametrize(("before", "status"), [("acquired t; settle dep", 300), ("acquired t", 200)])
def test_a_suspension_resets_the_count_of_releases_even_if_it_continues_at_once(
    server: Driver, before: str, status: int
) -> None:
    happen(server, before)
    server.release("t", 1, reason="no such function")
    assert happen(server, "acquire t 1; suspend t 2 dep") == status
    assert (server.task("t").releases, server.task("t").reason) == (0, None)


def test_a_suspension_that_continues_at_once_writes_nothing_if_there_is_nothing_to_reset(server: Driver) -> None:
    assert happen(server, "acquired t; settle dep; suspend t 1 dep") == 300
    assert not server.decided[-1].decision.changes
