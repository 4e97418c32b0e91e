"""The task state machine of section 3.2, cell by cell: 13 events in 5 states.

The table is written here a second time, from the protocol and not from the code, and is checked only through the
kernel's public entry points.
"""

from collections.abc import Callable

import pytest
from msgspec import Struct
from unit.driver import FAR, HOUR, LEASE, RETRY, START, Driver, promise_create

from resonate_server.kernel.model import Task
from resonate_server.protocol.records import TaskState

TASK, DEP, OTHER = "task", "dep", "other"
PENDING, ACQUIRED, SUSPENDED, HALTED, FULFILLED = TaskState
LONG_LEASE = 10 * RETRY


class Cell(Struct, frozen=True):
    """What an event does to a task; the defaults mean: nothing.

    ``status``: of the answer, ``None`` for events without a request.
    ``lease_from_now``: whether the lease restarts at the time of the event.
    """

    status: int | None = 200
    state: TaskState | None = None
    version_up: int = 0
    resumes_up: int = 0
    executes: int = 0
    lease_from_now: bool = False


REFUSED = Cell(status=409)
SAME = Cell()
NOTHING = Cell(status=None)
CLAIMED = Cell(state=ACQUIRED, version_up=1, lease_from_now=True)
BACK_IN_LINE = Cell(state=PENDING, executes=1)
RESUMED = Cell(status=None, state=PENDING, executes=1, resumes_up=1)
COUNTED = Cell(status=None, resumes_up=1)
FINISHED = Cell(state=FULFILLED)
EXECUTE_AGAIN = Cell(status=None, executes=1)
LEASE_OVER = Cell(status=None, state=PENDING, executes=1)
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
    "awaited promise settles": (COUNTED,      COUNTED,      RESUMED,   COUNTED,      NOTHING),
    "own promise settled":    (FINISHED,      FINISHED,     FINISHED,  FINISHED,     SAME),
    "retry timer due":        (EXECUTE_AGAIN, NOTHING,      NOTHING,   NOTHING,      NOTHING),
    "lease due":              (NOTHING,       LEASE_OVER,   NOTHING,   NOTHING,      NOTHING),
}  # fmt: skip


def bring_to(server: Driver, state: TaskState, lease: int = LONG_LEASE) -> Task:
    """Bring the task into ``state`` by requests alone, with a callback on ``DEP`` if it may still get one."""
    server.create(DEP, target=None)
    server.create(OTHER, target=None)
    server.create(TASK)
    server.register_callback(DEP, TASK)
    match state:
        case TaskState.ACQUIRED:
            server.acquire(TASK, ttl=lease)
        case TaskState.SUSPENDED:
            server.acquire(TASK, ttl=lease)
            server.suspend(TASK, 1, DEP)
        case TaskState.HALTED:
            server.halt(TASK)
        case TaskState.FULFILLED:
            server.settle(TASK)
    task = server.task(TASK)
    assert task.state is state
    server.forget_messages()
    return task


type Happens = Callable[[Driver, int], int | None]
"""Makes an event happen to the task at its version; returns the answer's status, ``None`` if there was no request."""


def pass_time(server: Driver, ms: int) -> None:
    server.wait(ms)


def settle_awaited(server: Driver) -> None:
    server.settle(DEP)


HAPPENS: dict[str, Happens] = {
    "task.create": lambda server, _: server.create_task(promise_create(TASK)).status,
    "task.acquire": lambda server, version: server.acquire(TASK, version).status,
    "task.release": lambda server, version: server.release(TASK, version).status,
    "task.suspend": lambda server, version: server.suspend(TASK, version, OTHER).status,
    "task.fulfill": lambda server, version: server.fulfill(TASK, version).status,
    "task.fence": lambda server, version: server.fence(TASK, version, promise_create("new", target=None)).status,
    "task.heartbeat": lambda server, version: server.heartbeat((TASK, version)).status,
    "task.halt": lambda server, _: server.halt(TASK).status,
    "task.continue": lambda server, _: server.continue_(TASK).status,
    "awaited promise settles": lambda server, _: settle_awaited(server),
    "own promise settled": lambda server, _: server.settle(TASK).status,
    "retry timer due": lambda server, _: pass_time(server, RETRY - 1),
    "lease due": lambda server, _: pass_time(server, LEASE - 1),
}


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

    status = HAPPENS[event](server, before.version)

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
        version = reclaimable_at_version_1(server)
    before = server.task(TASK)

    assert HAPPENS[event](server, version + off_by) == 409
    assert server.task(TASK) == before


def reclaimable_at_version_1(server: Driver) -> int:
    server.acquire(TASK, 0)
    server.release(TASK, 1)
    return 1


def test_a_heartbeat_of_another_version_is_ignored(server: Driver) -> None:
    before = bring_to(server, ACQUIRED)
    server.now += 1
    assert server.heartbeat((TASK, before.version - 1), (TASK, before.version + 1)).status == 200
    assert server.task(TASK) == before


def test_a_heartbeat_of_another_process_is_ignored(server: Driver) -> None:
    before = bring_to(server, ACQUIRED)
    server.now += 1
    assert server.heartbeat((TASK, before.version), pid="somebody else").status == 200
    assert server.task(TASK) == before


@pytest.mark.parametrize("state", [PENDING, ACQUIRED, SUSPENDED, HALTED])
def test_own_promise_expired_does_what_its_settlement_does(server: Driver, state: TaskState) -> None:
    bring_to(server, state, lease=100 * HOUR)
    server.wait(FAR - START)
    task = server.task(TASK)
    assert (task.state, task.pid, task.ttl, task.timer_at) == (FULFILLED, None, None, None)
    assert server.take_executes() == []


def test_several_awaited_promises_expiring_at_once_send_one_execute(server: Driver) -> None:
    server.create("a", target=None, timeout_at=START + 5)
    server.create("b", target=None, timeout_at=START + 5)
    server.suspended(TASK, "a", "b")
    server.wait(5)
    assert server.take_executes() == [(TASK, 1)]
