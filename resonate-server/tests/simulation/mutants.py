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

MUTANTS: dict[str, Callable[[], Patch]] = {}
"""Each mutant by its name, which describes the bug."""


def mutant(make: Callable[[], Patch]) -> Callable[[], Patch]:
    MUTANTS[make.__name__] = make
    return make


def _nothing(*_: object, **__: object) -> None:
    pass


@mutant
def acquire_does_not_check_the_version() -> Patch:
    original = moves.move_for

    def careless(event: TaskEvent, task: Task, version: int | None = None) -> Move:
        return original(event, task, None if event is TaskEvent.ACQUIRE else version)

    return mock.patch.object(moves, "move_for", careless)


@mutant
def an_acquired_task_can_be_acquired() -> Patch:
    return mock.patch.dict(states.MOVES[TaskEvent.ACQUIRE], {TaskState.ACQUIRED: Move.CLAIM})


@mutant
def a_claim_is_repeated_for_the_process_alone() -> Patch:
    def careless(task: Task, claim: moves.Claim, version: int) -> bool:
        return task.state is TaskState.ACQUIRED and task.pid == claim.pid and task.version == version + 1

    return mock.patch.object(moves, "is_repeated", careless)


@mutant
def a_fence_needs_no_lease() -> Patch:
    return mock.patch.dict(states.MOVES[TaskEvent.FENCE], dict.fromkeys(TaskState, Move.KEEP))


@mutant
def anybody_may_extend_a_lease() -> Patch:
    def careless(work: Workspace, ref: TaskRef, _: str) -> None:
        task = work.task(ref.id)
        if task is not None and task.state is TaskState.ACQUIRED:
            moves.extend(work, task)

    return mock.patch.object(tasks, "_beat", careless)


@mutant
def leases_do_not_end() -> Patch:
    original = Workspace.put_task

    def endless(self: Workspace, task: Task) -> None:
        original(self, replace(task, timer_at=MAX_INTEGER) if task.state is TaskState.ACQUIRED else task)

    return mock.patch.object(Workspace, "put_task", endless)


@mutant
def the_version_grows_when_a_lease_ends() -> Patch:
    def growing(work: Workspace, task: Task) -> None:
        moves.queue(work, replace(task, version=task.version + 1))

    return mock.patch.object(moves, "take_back", growing)


@mutant
def nobody_is_woken() -> Patch:
    return mock.patch.object(settlement, "_wake_awaiters", _nothing)


@mutant
def listeners_are_not_told() -> Patch:
    return mock.patch.object(settlement, "_tell_listeners", _nothing)


@mutant
def a_settled_promise_keeps_its_task() -> Patch:
    return mock.patch.object(settlement, "_finish_own_task", _nothing)


@mutant
def the_last_settlement_wins() -> Patch:
    def overwriting(work: Workspace, request: Any) -> Answer:
        promise = work.promise_or_404(request.id)
        return promises._answer(settlement.settle(work, promise, request.state, request.value))

    return mock.patch.object(promises, "promise_settle", overwriting)


@mutant
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


@mutant
def a_pending_task_is_not_sent_again() -> Patch:
    return mock.patch.dict(states.MOVES[TaskEvent.RETRY_DUE], clear=True)


@mutant
def a_pending_task_has_no_timer() -> Patch:
    original = Workspace.put_task

    def forgetful(self: Workspace, task: Task) -> None:
        original(self, replace(task, timer_at=None) if task.state is TaskState.PENDING else task)

    return mock.patch.object(Workspace, "put_task", forgetful)


@mutant
def deadlines_are_not_noticed() -> Patch:
    return mock.patch.object(settlement, "is_expired", return_value=False)


@mutant
def an_expired_promise_is_settled_when_that_is_noticed() -> Patch:
    original = settlement.touch

    def late(work: Workspace, ids: Any) -> None:
        def expired(promise: Promise) -> Promise:
            state = settlement.state_at_deadline(promise)
            return replace(promise, state=state, value=Value(), settled_at=work.now)

        with mock.patch.object(settlement, "expired", expired):
            original(work, ids)

    return mock.patch.object(settlement, "touch", late)


@mutant
def timers_are_rejected() -> Patch:
    return mock.patch.object(settlement, "state_at_deadline", return_value=PromiseState.TIMEDOUT)


@mutant
def a_claim_does_not_forget_the_resumes() -> Patch:
    original = Workspace.put_task

    def keeping(self: Workspace, task: Task) -> None:
        before = self.task(task.id)
        claimed = before is not None and before.version < task.version
        original(self, replace(task, resumes=before.resumes) if before is not None and claimed else task)

    return mock.patch.object(Workspace, "put_task", keeping)


@mutant
def answers_leave_before_the_commit() -> Patch:
    original = SQLiteStore._guarded

    def hasty(self: SQLiteStore, job: Job, now: int) -> Outcome:
        outcome = original(self, job, now)
        if isinstance(outcome, Decided) and job.done is not None and not job.done.done():
            job.done.set_result(outcome.decision.answer)
        return outcome

    return mock.patch.object(SQLiteStore, "_guarded", hasty)


@mutant
def messages_leave_before_the_commit() -> Patch:
    original = SQLiteStore._guarded

    def hasty(self: SQLiteStore, job: Job, now: int) -> Outcome:
        outcome = original(self, job, now)
        if isinstance(outcome, Decided):
            self._listener.decided(outcome)
            outcome.decision.messages.clear()
        return outcome

    return mock.patch.object(SQLiteStore, "_guarded", hasty)


@mutant
def a_worker_that_connects_is_not_told_what_waits() -> Patch:
    return mock.patch.object(Hub, "refill", _nothing)


@mutant
def messages_go_to_streams_that_are_gone() -> Patch:
    return mock.patch.object(Hub, "disconnect", _nothing)


@mutant
def unblock_messages_are_not_delivered() -> Patch:
    return mock.patch.object(Unblocks, "send", _nothing)


@mutant
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


OUTSIDE_THE_KERNEL = {
    "requests_in_one_transaction_do_not_see_each_other",
    "answers_leave_before_the_commit",
    "messages_leave_before_the_commit",
    "a_worker_that_connects_is_not_told_what_waits",
    "messages_go_to_streams_that_are_gone",
    "unblock_messages_are_not_delivered",
}

if __name__ == "__main__":
    from resonate_server.cli import main

    with MUTANTS[sys.argv.pop(1)]():
        main()
