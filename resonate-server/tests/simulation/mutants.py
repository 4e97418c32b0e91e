"""Deliberate bugs in the server, to check that the randomised tests catch them. Each is a patch that can be undone.

Run as a program, this module is a server with one of them: ``python -m simulation.mutants MUTANT dev ...``.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from msgspec.structs import replace

from resonate_server.delivery import Hub
from resonate_server.delivery.unblocks import Unblocks
from resonate_server.kernel import moves, promises, settlement, states, tasks
from resonate_server.kernel.apply import _RULES
from resonate_server.kernel.model import Decision, PutCallback, Task
from resonate_server.kernel.states import Move, TaskEvent
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.records import Promise, PromiseState, TaskState, Value
from resonate_server.protocol.requests import MAX_INTEGER, TaskRef, TaskSuspend
from resonate_server.store import Decided
from resonate_server.store.sqlite import Database, SQLiteStore
from resonate_server.store.sqlite.store import Job, Outcome

type Patch = AbstractContextManager[object]


def _always(owner: object, name: str, answer: object = None) -> Callable[[], Patch]:
    """Have a function do nothing but return ``answer``."""
    return lambda: mock.patch.object(owner, name, return_value=answer)


def _moving(event: TaskEvent, moves: dict[TaskState, Move]) -> Callable[[], Patch]:
    """Replace cells in the row of the table of states; without any, the row is empty."""
    return lambda: mock.patch.dict(states.MOVES[event], moves, clear=not moves)


def _writing(change: Callable[[Workspace, Task], Task]) -> Callable[[], Patch]:
    """Have each task written differently."""
    original = Workspace.put_task
    return lambda: mock.patch.object(Workspace, "put_task", lambda work, task: original(work, change(work, task)))


def acquire_does_not_check_the_version() -> Patch:
    original = moves.move_for

    def careless(event: TaskEvent, task: Task, version: int | None = None) -> Move:
        return original(event, task, None if event is TaskEvent.ACQUIRE else version)

    return mock.patch.object(moves, "move_for", careless)


def a_claim_is_repeated_for_the_process_alone() -> Patch:
    def careless(task: Task, claim: moves.Claim, version: int) -> bool:
        return task.state is TaskState.ACQUIRED and task.pid == claim.pid and task.version == version + 1

    return mock.patch.object(moves, "is_repeated", careless)


def anybody_may_extend_a_lease() -> Patch:
    def careless(work: Workspace, ref: TaskRef, _: str) -> None:
        task = work.task(ref.id)
        if task is not None and task.state is TaskState.ACQUIRED:
            moves.extend(work, task)

    return mock.patch.object(tasks, "_beat", careless)


def the_version_grows_when_a_lease_ends() -> Patch:
    def growing(work: Workspace, task: Task) -> None:
        moves.queue(work, replace(task, version=task.version + 1))

    return mock.patch.object(moves, "take_back", growing)


def the_last_settlement_wins() -> Patch:
    def overwriting(work: Workspace, request: Any) -> Answer:
        promise = work.promise_or_404(request.id)
        return promises._answer(settlement.settle(work, promise, request.state, request.value))

    return mock.patch.object(promises, "promise_settle", overwriting)


def suspend_does_not_look_whether_something_is_settled() -> Patch:
    def blind(work: Workspace, request: TaskSuspend) -> Answer:
        settlement.touch(work, [request.id])
        task = work.task_or_404(request.id)
        moves.move_for(TaskEvent.SUSPEND, task, request.version)
        for id in request.awaited:
            work.link(PutCallback(awaited=id, awaiter=task.id))
        moves.park(work, task)
        return Answer(status=200, data=Nothing())

    return mock.patch.dict(_RULES, {TaskSuspend: blind})


def an_expired_promise_is_settled_when_that_is_noticed() -> Patch:
    original = settlement.touch

    def late(work: Workspace, ids: Any) -> None:
        def expired(promise: Promise) -> Promise:
            state = settlement.state_at_deadline(promise)
            return replace(promise, state=state, value=Value(), settled_at=work.now)

        with mock.patch.object(settlement, "expired", expired):
            original(work, ids)

    return mock.patch.object(settlement, "touch", late)


def _with_old_resumes(work: Workspace, task: Task) -> Task:
    before = work.task(task.id)
    return task if before is None or before.version == task.version else replace(task, resumes=before.resumes)


def _hasty(publish: Callable[[SQLiteStore, Job, Decided], None]) -> Callable[[], Patch]:
    """Have the store publish something of each decision at once, before it is committed."""
    original = SQLiteStore._guarded

    def guarded(self: SQLiteStore, job: Job, now: int) -> Outcome:
        outcome = original(self, job, now)
        if isinstance(outcome, Decided):
            publish(self, job, outcome)
        return outcome

    return lambda: mock.patch.object(SQLiteStore, "_guarded", guarded)


def _answer(_: SQLiteStore, job: Job, decided: Decided) -> None:
    if job.done is not None and not job.done.done():
        job.done.set_result(decided.decision.answer)


def _send(store: SQLiteStore, _: Job, decided: Decided) -> None:
    store._listener.decided(decided)
    decided.decision.messages.clear()


def requests_in_one_transaction_do_not_see_each_other() -> Patch:
    """A lost update: of two requests that change the same row, the later one overwrites the earlier."""
    decide, keep = SQLiteStore._decide, Database._keep

    def blind(self: SQLiteStore, batch: list[Job], now: int) -> tuple[list[Outcome], bool]:
        kept: list[tuple[Database, Decision, int]] = []
        with mock.patch.object(Database, "_keep", lambda *decided: kept.append(decided)):
            outcomes, _ = decide(self, batch, now)
        for decided in kept:
            keep(*decided)
        return outcomes, self._flush()

    return mock.patch.object(SQLiteStore, "_decide", blind)


IN_THE_KERNEL: dict[str, Callable[[], Patch]] = {
    "acquire_does_not_check_the_version": acquire_does_not_check_the_version,
    "an_acquired_task_can_be_acquired": _moving(TaskEvent.ACQUIRE, {TaskState.ACQUIRED: Move.CLAIM}),
    "a_claim_is_repeated_for_the_process_alone": a_claim_is_repeated_for_the_process_alone,
    "a_claim_does_not_forget_the_resumes": _writing(_with_old_resumes),
    "a_fence_needs_no_lease": _moving(TaskEvent.FENCE, dict.fromkeys(TaskState, Move.KEEP)),
    "anybody_may_extend_a_lease": anybody_may_extend_a_lease,
    "leases_do_not_end": _writing(
        lambda _, task: replace(task, timer_at=MAX_INTEGER) if task.state is TaskState.ACQUIRED else task
    ),
    "the_version_grows_when_a_lease_ends": the_version_grows_when_a_lease_ends,
    "nobody_is_woken": _always(settlement, "_wake_awaiters"),
    "listeners_are_not_told": _always(settlement, "_tell_listeners"),
    "a_settled_promise_keeps_its_task": _always(settlement, "_finish_own_task"),
    "the_last_settlement_wins": the_last_settlement_wins,
    "suspend_does_not_look_whether_something_is_settled": suspend_does_not_look_whether_something_is_settled,
    "a_pending_task_is_not_sent_again": _moving(TaskEvent.RETRY_DUE, {}),
    "a_pending_task_has_no_timer": _writing(
        lambda _, task: replace(task, timer_at=None) if task.state is TaskState.PENDING else task
    ),
    "deadlines_are_not_noticed": _always(settlement, "is_expired", False),
    "an_expired_promise_is_settled_when_that_is_noticed": an_expired_promise_is_settled_when_that_is_noticed,
    "timers_are_rejected": _always(settlement, "state_at_deadline", PromiseState.TIMEDOUT),
}
"""Each mutant by its name, which describes the bug."""

MUTANTS = IN_THE_KERNEL | {
    "requests_in_one_transaction_do_not_see_each_other": requests_in_one_transaction_do_not_see_each_other,
    "answers_leave_before_the_commit": _hasty(_answer),
    "messages_leave_before_the_commit": _hasty(_send),
    "a_worker_that_connects_is_not_told_what_waits": _always(Hub, "refill"),
    "messages_go_to_streams_that_are_gone": _always(Hub, "disconnect"),
    "unblock_messages_are_not_delivered": _always(Unblocks, "send"),
}

if __name__ == "__main__":
    from resonate_server.cli import main

    with MUTANTS[sys.argv.pop(1)]():
        main()
