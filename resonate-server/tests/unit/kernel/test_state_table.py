"""The task state machine of section 3.2, cell by cell: 13 events in 5 states.

The table is written here a second time, from the protocol and not from the code, and is checked only through the
kernel's public entry points.
"""

import pytest
from msgspec import Struct
from unit.driver import FAR, HOUR, LEASE, PID, RETRY, START, Driver
from unit.stories import happen

from resonate_server.kernel.model import Task
from resonate_server.protocol.records import TaskState

TASK = "task"
PENDING, ACQUIRED, SUSPENDED, HALTED, FULFILLED = TaskState
LONG_LEASE = 10 * RETRY


class Cell(Struct, frozen=True):
    """What an event does to a task; the defaults mean: nothing.

    ``status``: of the answer, 0 for events without a request.
    ``lease_from_now``: whether the lease restarts at the time of the event.
    """

    status: int = 200
    state: TaskState | None = None
    version_up: int = 0
    resumes_up: int = 0
    executes: int = 0
    lease_from_now: bool = False


REFUSED = Cell(status=409)
SAME = Cell()
NOTHING = Cell(status=0)
CLAIMED = Cell(state=ACQUIRED, version_up=1, lease_from_now=True)
BACK_IN_LINE = Cell(state=PENDING, executes=1)
RESUMED = Cell(state=PENDING, executes=1, resumes_up=1)
COUNTED = Cell(resumes_up=1)
FINISHED = Cell(state=FULFILLED)
EXECUTE_AGAIN = Cell(status=0, executes=1)
LEASE_OVER = Cell(status=0, state=PENDING, executes=1)
PARKED = Cell(state=SUSPENDED)
STOPPED = Cell(state=HALTED)
EXTENDED = Cell(lease_from_now=True)

TABLE: dict[str, tuple[Cell, Cell, Cell, Cell, Cell]] = {
    # event                    pending        acquired      suspended  halted        fulfilled
    "task.create":            (CLAIMED,       REFUSED,      REFUSED,   REFUSED,      SAME),
    "task.acquire":           (CLAIMED,       REFUSED,      REFUSED,   REFUSED,      REFUSED),
    "task.release":           (REFUSED,       BACK_IN_LINE, REFUSED,   REFUSED,      REFUSED),
    "task.suspend":           (REFUSED,       PARKED,       REFUSED,   REFUSED,      REFUSED),
    "task.fulfill":           (REFUSED,       FINISHED,     REFUSED,   REFUSED,      REFUSED),
    "task.fence":             (REFUSED,       SAME,         REFUSED,   REFUSED,      REFUSED),
    "task.heartbeat":         (SAME,          EXTENDED,     SAME,      SAME,         SAME),
    "task.halt":              (STOPPED,       STOPPED,      STOPPED,   SAME,         REFUSED),
    "task.continue":          (REFUSED,       REFUSED,      REFUSED,   BACK_IN_LINE, REFUSED),
    "awaited promise settles": (COUNTED,      COUNTED,      RESUMED,   COUNTED,      SAME),
    "own promise settled":    (FINISHED,      FINISHED,     FINISHED,  FINISHED,     SAME),
    "retry timer due":        (EXECUTE_AGAIN, NOTHING,      NOTHING,   NOTHING,      NOTHING),
    "lease due":              (NOTHING,       LEASE_OVER,   NOTHING,   NOTHING,      NOTHING),
}  # fmt: skip


def bring_to(server: Driver, state: TaskState, lease: int = LONG_LEASE) -> Task:
    """Bring the task into ``state`` by requests alone, with a callback on ``dep`` if it may still get one."""
    happen(server, "create dep -; create other -; create task; register_callback dep task")
    if state in (ACQUIRED, SUSPENDED):
        server.acquire(TASK, ttl=lease)
    ways = {SUSPENDED: "suspend task 1 dep", HALTED: "halt task", FULFILLED: "settle task"}
    happen(server, ways.get(state, "forget"))
    task = server.task(TASK)
    assert task.state is state
    server.forget_messages()
    return task


HAPPENS = {
    "task.create": "new task",
    "task.acquire": "acquire task {version}",
    "task.release": "release task {version}",
    "task.suspend": "suspend task {version} other",
    "task.fulfill": "fulfill task {version}",
    "task.fence": "fenced task {version} new -",
    "task.heartbeat": "beat task {version}",
    "task.halt": "halt task",
    "task.continue": "continue_ task",
    "awaited promise settles": "settle dep",
    "own promise settled": "settle task",
    "retry timer due": f"wait {RETRY - 1}",
    "lease due": f"wait {LEASE - 1}",
}
"""The steps that make an event happen to the task (see :mod:`unit.stories`)."""


CELLS = [
    pytest.param(event, state, cell, id=f"{event}, {state}")
    for event, row in TABLE.items()
    for state, cell in zip(TaskState, row, strict=True)
]


def test_the_table_is_complete() -> None:
    assert len(CELLS) == 13 * 5
    assert TABLE.keys() == HAPPENS.keys()


@pytest.mark.parametrize(("event", "state", "cell"), CELLS)
def test_cell(server: Driver, event: str, state: TaskState, cell: Cell) -> None:
    before = bring_to(server, state, lease=LEASE if event == "lease due" else LONG_LEASE)
    server.now = START + 1

    status = happen(server, HAPPENS[event].format(version=before.version))

    after = server.task(TASK)
    assert status == cell.status
    assert after.state is (cell.state or before.state)
    assert after.version == before.version + cell.version_up
    assert after.resumes == before.resumes + cell.resumes_up
    assert server.take_executes() == [(TASK, after.version)] * cell.executes
    assert lease_began_now(server, after) is cell.lease_from_now
    if cell.status == 409 or cell in (SAME, NOTHING):
        assert after == before


def lease_began_now(server: Driver, task: Task) -> bool:
    if task.state is not ACQUIRED or task.ttl is None:
        return False
    return task.timer_at == server.now + task.ttl


@pytest.mark.parametrize("event", ["task.acquire", "task.release", "task.suspend", "task.fulfill", "task.fence"])
@pytest.mark.parametrize("off_by", [-1, +1])
def test_another_version_is_refused(server: Driver, event: str, off_by: int) -> None:
    state = PENDING if event == "task.acquire" else ACQUIRED
    version = bring_to(server, state).version
    if version + off_by < 0:
        happen(server, "acquire task 0; release task 1")
        version = 1
    before = server.task(TASK)

    assert happen(server, HAPPENS[event].format(version=version + off_by)) == 409
    assert server.task(TASK) == before


@pytest.mark.parametrize(("off_by", "pid"), [(-1, PID), (+1, PID), (0, "somebody else")])
def test_a_heartbeat_of_another_version_or_process_is_ignored(server: Driver, off_by: int, pid: str) -> None:
    before = bring_to(server, ACQUIRED)
    server.now += 1
    assert server.heartbeat((TASK, before.version + off_by), pid=pid).status == 200
    assert server.task(TASK) == before


@pytest.mark.parametrize("state", [PENDING, ACQUIRED, SUSPENDED, HALTED])
def test_own_promise_expired_does_what_its_settlement_does(server: Driver, state: TaskState) -> None:
    bring_to(server, state, lease=100 * HOUR)
    server.wait(FAR - START)
    task = server.task(TASK)
    assert (task.state, task.pid, task.ttl, task.timer_at) == (FULFILLED, None, None, None)
    assert server.take_executes() == []
