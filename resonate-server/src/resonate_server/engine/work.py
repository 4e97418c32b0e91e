"""What happens inside a transaction: load, decide, write.

Hands back what is to be done after the commit.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from resonate_server import kernel
from resonate_server.engine.debug import describe
from resonate_server.engine.observer import Decided
from resonate_server.kernel.model import Decision, Footprint, Notice, Rows, Rules, Task, Withdraw
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.envelope import Call
from resonate_server.protocol.errors import Malformed
from resonate_server.protocol.messages import Execute, Message, Unblock
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    PromiseSearch,
    Request,
    ScheduleSearch,
    TaskSearch,
)
from resonate_server.store import Store

MAX_DUE = 100
"""Promises, and as many tasks and schedules, that one transaction treats because their time has come."""

MAX_PORTIONS = 20
"""So many times :data:`MAX_DUE` are treated before a search."""

MAX_TREES = 100
"""Trees of settled promises that one transaction deletes."""


class Outbound(Protocol):
    """Where messages go; called on the event loop, after the commit."""

    def send(self, message: Message) -> None:
        """Deliver it, or leave it to the store to remember."""

    def withdraw(self, task_id: str) -> None:
        """Nobody needs to be told of the task any more."""

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None:
        """The answer to a request for the queued tasks of a group."""

    def silent(self, pid: str) -> None:
        """The process let a lease lapse: tell others rather than it, until it is heard of."""

    def heard(self, pid: str) -> None:
        """The process has sent a request of its own."""

    def refresh(self) -> None:
        """Something owed may not have been sent: ask for it again."""


type Effect = Callable[[Outbound], None]


class Result(Struct):
    """What one piece of work leaves behind once its transaction is committed."""

    answer: Answer | None = None
    failed: bool = False
    effects: list[Effect] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    tasks: Counter[TaskState] = field(default_factory=Counter)
    """How many more, or fewer, tasks there are in each state."""
    decided: list[Decided] = field(default_factory=list)


class Work:
    """``server_url`` stands in messages. Every method is called inside a transaction; ``now`` is in ms."""

    def __init__(self, store: Store, rules: Rules, server_url: str) -> None:
        self._store = store
        self._rules = rules
        self._server_url = server_url
        self.paused = False
        """Set by ``debug.start``: nothing happens by itself, and nothing is delivered."""

    # --- requests ---------------------------------------------------------------------------------------------------

    def answer(self, call: Call, now: int) -> Result:
        now = now if call.debug_time is None else call.debug_time
        if call.request.kind.endswith(".search"):
            return self._search(call.request, now)
        if call.request.kind.startswith("debug."):
            return self._debug(call)
        rows = load(self._store, kernel.footprint(call.request), now, self._rules)
        return self._write(kernel.apply(call, rows, now, self._rules), rows, now, call.request)

    def _search(self, request: Request, now: int) -> Result:
        """All that is due comes first, so that nothing is shown as pending that is past its deadline."""
        result = self.tick_all(now)
        match request:
            case PromiseSearch():
                result.answer = kernel.answer_promise_search(request, self._store.search_promises(request))
            case TaskSearch():
                result.answer = kernel.answer_task_search(request, self._store.search_tasks(request))
            case ScheduleSearch():
                result.answer = kernel.answer_schedule_search(request, self._store.search_schedules(request))
        return result

    def _debug(self, call: Call) -> Result:
        match call.request:
            case DebugStart():
                self.paused = True
            case DebugStop():
                self.paused = False
                return Result(answer=Answer(status=200, data=Nothing()), effects=self.owed())
            case DebugReset():
                return self._debug_reset()
            case DebugTick(time=time):
                return self._debug_tick(time, call.debug_time)
            case DebugSnap():
                return Result(answer=Answer(status=200, data=describe(self._store.snapshot(), self._server_url)))
        return Result(answer=Answer(status=200, data=Nothing()))

    def _debug_reset(self) -> Result:
        there_were = self._store.count_tasks()
        self._store.reset()
        return Result(answer=Answer(status=200, data=Nothing()), tasks=_negative(there_were))

    def _debug_tick(self, time: int, debug_time: int | None) -> Result:
        if debug_time not in (None, time):
            error = Malformed("data.time must equal the head's resonate:debug_time")
            return Result(answer=Answer(status=error.status, data=error.message))
        ticked = self.tick_all(time)
        return replace(ticked, answer=Answer(status=200, data=[]), effects=[])

    # --- by itself --------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> Result | None:
        """One portion of what is due, or ``None`` if nothing is."""
        due = self._store.due(now, MAX_DUE)
        if not due:
            return None
        rows = load(self._store, kernel.due_footprint(due, now, self._rules), now, self._rules)
        return self._write(kernel.tick(due, rows, now, self._rules), rows, now)

    def tick_all(self, now: int) -> Result:
        """Everything that is due, or at least very much of it: others wait meanwhile."""
        total = Result()
        for _ in range(MAX_PORTIONS):
            portion = self.tick(now)
            if portion is None:
                break
            total.effects += portion.effects
            total.notices += portion.notices
            total.tasks.update(portion.tasks)
            total.decided += portion.decided
        return total

    def take_back(self, pid: str, now: int) -> Result:
        """The leases of a process that is gone."""
        held = self._store.held_tasks(pid)
        rows = load(self._store, Footprint(ids=tuple(held)), now, self._rules)
        return self._write(kernel.release_leases(pid, held, rows, now, self._rules), rows, now)

    def drop_settled_trees(self, before: int) -> Result:
        """Delete some of the trees that were settled ``before`` (ms); answers how many."""
        dropped = self._store.drop_settled_trees(before, MAX_TREES)
        gone = Counter({TaskState.FULFILLED: dropped.tasks})
        return Result(answer=Answer(status=200, data=dropped.trees), tasks=_negative(gone))

    def begin(self, now: int) -> Result:
        """The first piece of work after a start."""
        acquired = self._store.acquired_tasks()
        rows = self._store.load(Footprint(ids=tuple(acquired)))
        result = self._write(kernel.renew_leases(acquired, rows, now, self._rules), rows, now)
        result.effects += self.owed()
        result.tasks = self._store.count_tasks()
        return result

    # --- what is owed -----------------------------------------------------------------------------------------------

    def owed(self) -> list[Effect]:
        """Send every kept ``unblock``, and have delivery ask for the queued tasks of those who are connected."""
        return [*map(_send, self._store.unblocks()), lambda outbound: outbound.refresh()]

    def refill(self, group: str, limit: int) -> Result:
        tasks = self._store.queued_tasks(group, limit)
        messages = [task.execute() for task in tasks]
        complete = len(tasks) < limit
        return Result(effects=[lambda outbound: outbound.refill(group, messages, complete)])

    def _write(self, decision: Decision, rows: Rows, now: int, request: Request | None = None) -> Result:
        if decision.changes:
            self._store.write(decision.changes)
        for message in decision.messages:
            if isinstance(message, Unblock):
                self._store.put_unblock(message, now)
        return Result(
            answer=decision.answer,
            effects=[_effect(message) for message in decision.messages],
            notices=decision.notices,
            tasks=_difference(rows.tasks, decision.changes.tasks),
            decided=[Decided(now, rows, decision, request)],
        )


def load(store: Store, footprint: Footprint, now: int, rules: Rules) -> Rows:
    """All that a rule may look at."""
    rows = store.load(footprint)
    links = kernel.link_footprint(footprint, rows, now)
    if links:
        store.load_links(rows, links, rules.told_at_once)
    return rows


def _difference(before: dict[str, Task], after: dict[str, Task]) -> Counter[TaskState]:
    difference: Counter[TaskState] = Counter()
    for id, task in after.items():
        earlier = before.get(id)
        if earlier is None or earlier.state is not task.state:
            difference[task.state] += 1
            if earlier is not None:
                difference[earlier.state] -= 1
    return difference


def _negative(counts: Counter[TaskState]) -> Counter[TaskState]:
    return Counter({state: -count for state, count in counts.items()})


def _effect(message: Message | Withdraw) -> Effect:
    if isinstance(message, Withdraw):
        return lambda outbound: outbound.withdraw(message.task_id)
    return _send(message)


def _send(message: Message) -> Effect:
    return lambda outbound: outbound.send(message)
