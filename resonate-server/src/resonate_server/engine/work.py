"""What happens inside a transaction: load, decide, write.

Hands back what is to be done after the commit.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from resonate_server import kernel
from resonate_server.delivery.unblocks import weight_of
from resonate_server.engine.debug import describe
from resonate_server.engine.observer import Decided
from resonate_server.engine.outgoing import LARGE_BYTES, Outgoing
from resonate_server.kernel.model import Decision, Footprint, HandedOutInVain, Notice, Rows, Rules, Task, Withdraw
from resonate_server.kernel.pages import Page
from resonate_server.kernel.weight import answer_weight
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.envelope import Call
from resonate_server.protocol.errors import Malformed
from resonate_server.protocol.messages import Execute, Message, OwedUnblock, Unblock
from resonate_server.protocol.payload import excerpt, function_name
from resonate_server.protocol.records import Promise, Schedule, TaskState
from resonate_server.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    PromiseSearch,
    Request,
    ScheduleSearch,
    Search,
    TaskHeartbeat,
    TaskSearch,
)
from resonate_server.store import FIRST, SettledRoot, Store

MAX_DUE = 100
"""Promises, and as many tasks and schedules, that one transaction treats because their time has come."""

MAX_TREES = 50
"""Trees that one transaction looks at, to delete those that have settled."""

MAX_UNBLOCKS = 256
MAX_UNBLOCK_BYTES = 1_024 * 1_024
"""``unblock`` messages that are loaded in one go; of a larger size only a single one."""

MAX_LEASES = 200
"""Leases that one transaction extends or takes back."""

PORTION_S = 0.005
"""After this time a search lets others pass."""

STEP = 500
"""Rows that a search looks at before it looks at the time."""

MAX_SNAP_BYTES = 8 * 1_024 * 1_024
"""Of a state that is shown as a whole, for tests of a few promises."""


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

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        """The answer to a request for what is owed to a listener, from after a place on."""

    def is_at_work(self, pid: str) -> None:
        """The process, which has not claimed what it was told of, holds other tasks."""

    def refresh(self) -> None:
        """Something owed may not have been sent: ask for it again."""

    def reset(self) -> None:
        """Everything was deleted: nobody is to be told of anything."""


type Effect = Callable[[Outbound], None]


class Result(Struct):
    """What one piece of work leaves behind once its transaction is committed.

    ``rest``: what remains to be done before there is an answer, after others have had their turn.
    ``held_back``: nothing was done, because too many large answers are under way; to be done when some have left.
    """

    answer: Answer | None = None
    rest: "Piece | None" = None
    held_back: bool = False
    failed: bool = False
    effects: list[Effect] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    tasks: Counter[TaskState] = field(default_factory=Counter)
    """How many more, or fewer, tasks there are in each state."""
    decided: list[Decided] = field(default_factory=list)


type Piece = Callable[[int], Result]
"""A piece of work, done at a time (ms) inside a transaction."""


class Work:
    """``server_url`` stands in messages. Every method is called inside a transaction; ``now`` is in ms."""

    def __init__(self, store: Store, rules: Rules, server_url: str) -> None:
        self._store = store
        self._rules = rules
        self._server_url = server_url
        self.outgoing = Outgoing()
        self.paused = False
        """Set by ``debug.start``: nothing happens by itself, and nothing is delivered."""

    # --- requests ---------------------------------------------------------------------------------------------------

    def answer(self, call: Call, now: int) -> Result:
        now = now if call.debug_time is None else call.debug_time
        match call.request:
            case PromiseSearch() | TaskSearch() | ScheduleSearch():
                return self._search(call.request, now)
            case TaskHeartbeat(tasks=tasks) if len(tasks) > MAX_LEASES:
                return self._beat_in_portions(call, call.request, now)
        if call.request.kind.startswith("debug."):
            return self._debug(call)
        return self._apply(call, now)

    def _apply(self, call: Call, now: int) -> Result:
        footprint = kernel.footprint(call.request)
        if self.outgoing.is_full:
            if self._store.weigh(footprint.shown) > LARGE_BYTES:
                return Result(held_back=True)
            footprint = replace(footprint, preload_for=None)  # It may always be left out (section 3.4).
        rows = load(self._store, footprint, now, self._rules)
        return self._write(kernel.apply(call, rows, now, self._rules), rows, now, call.request)

    def _beat_in_portions(self, call: Call, beat: TaskHeartbeat, now: int) -> Result:
        """Each lease stands for itself, so it does not matter that they are extended one after the other."""
        first, others = (replace(beat, tasks=tasks) for tasks in (beat.tasks[:MAX_LEASES], beat.tasks[MAX_LEASES:]))
        result = self._apply(replace(call, request=first), now)
        return replace(result, answer=None, rest=lambda now: self.answer(replace(call, request=others), now))

    def _search(self, search: Search, now: int) -> Result:
        """All that is due comes first, so that nothing is shown as pending that is past its deadline."""
        if self.outgoing.is_full:
            return Result(held_back=True)
        ticked = self.tick(now)
        if ticked is None:
            return self._look_on(search, Page(search))
        ticked.rest = lambda _: self._search(search, now)
        return ticked

    def _look_on(self, ahead: Search, page: Page) -> Result:
        """One portion of a search; ``ahead``: what of it is still to be done."""
        end = time.perf_counter() + PORTION_S
        while time.perf_counter() < end:
            last = self._store.id_ahead(ahead, STEP)
            for row in self._find(ahead, last):
                page.take(row)
                if page.is_full:
                    break
            if last is None or page.is_full:
                return Result(answer=self._weighed(page.answer()))
            ahead = replace(ahead, cursor=last, limit=page.places)
        return Result(rest=lambda _: self._look_on(ahead, page))

    def _find(self, search: Search, last: str | None) -> Iterator[Promise | Task | Schedule]:
        match search:
            case PromiseSearch():
                return self._store.search_promises(search, last)
            case TaskSearch():
                return self._store.search_tasks(search, last)
            case ScheduleSearch():
                return self._store.search_schedules(search, last)

    def _weighed(self, answer: Answer) -> Answer:
        weight = answer_weight(answer.data)
        if weight <= LARGE_BYTES:
            return answer
        self.outgoing.decided(weight)
        return replace(answer, weight=weight)

    def _debug(self, call: Call) -> Result:
        match call.request:
            case DebugStart():
                self.paused = True
            case DebugStop():
                self.paused = False
                return Result(answer=Answer(status=200, data=Nothing()), effects=[_refresh])
            case DebugReset():
                return self._debug_reset()
            case DebugTick(time=time):
                return self._debug_tick(time, call.debug_time)
            case DebugSnap():
                return Result(answer=self._debug_snap())
        return Result(answer=Answer(status=200, data=Nothing()))

    def _debug_snap(self) -> Answer:
        size = self._store.snapshot_bytes()
        if size > MAX_SNAP_BYTES:
            sentence = f"the state has about {size} bytes; debug.snap shows at most {MAX_SNAP_BYTES}"
            return Answer(status=413, data=sentence)
        return Answer(status=200, data=describe(self._store.snapshot(), self._server_url))

    def _debug_reset(self) -> Result:
        there_were = self._store.count_tasks()
        self._store.reset()
        return Result(answer=Answer(status=200, data=Nothing()), effects=[reset], tasks=_negative(there_were))

    def _debug_tick(self, time: int, debug_time: int | None) -> Result:
        if debug_time not in (None, time):
            error = Malformed("data.time must equal the head's resonate:debug_time")
            return Result(answer=Answer(status=error.status, data=error.message))
        ticked = self.tick(time)
        if ticked is None:
            return Result(answer=Answer(status=200, data=[]))
        return replace(ticked, effects=[], rest=lambda _: self._debug_tick(time, debug_time))

    # --- by itself --------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> Result | None:
        """One portion of what is due; ``None`` if nothing is, or nothing comes of it and it would stay so for ever."""
        due = self._store.due(now, MAX_DUE)
        if not due:
            return None
        rows = load(self._store, kernel.due_footprint(due, now, self._rules), now, self._rules)
        decision = kernel.tick(due, rows, now, self._rules)
        return self._write(decision, rows, now) if decision.changes else None

    def take_back(self, pid: str, now: int) -> Result:
        """The leases of a process that is gone."""
        return self._take_back(pid, self._store.held_tasks(pid), now)

    def _take_back(self, pid: str, held: list[str], now: int) -> Result:
        first, others = held[:MAX_LEASES], held[MAX_LEASES:]
        rows = load(self._store, Footprint(ids=tuple(first)), now, self._rules)
        result = self._write(kernel.release_leases(pid, first, rows, now, self._rules), rows, now)
        if others:
            result.rest = lambda now: self._take_back(pid, others, now)
        return result

    def set_aside(self, pid: str, executes: list[Execute], now: int) -> Result:
        """Tasks that the process was told of and has not claimed."""
        if self.paused:
            return Result()
        ids = tuple(execute.task_id for execute in executes)
        rows = load(self._store, Footprint(ids=ids), now, self._rules)
        result = self._write(kernel.set_aside(executes, rows, now, self._rules), rows, now)
        if self._store.held_tasks(pid):
            result.effects.append(lambda outbound: outbound.is_at_work(pid))
        return result

    def recall(self, group: str, now: int) -> Result:
        """Offer what was set aside; what is left over waits for the end of its pause."""
        if self.paused:
            return Result()
        ids = self._store.set_aside_tasks(group, MAX_DUE)
        rows = load(self._store, Footprint(ids=tuple(ids)), now, self._rules)
        return self._write(kernel.recall(ids, rows, now, self._rules), rows, now)

    def drop_settled_trees(self, before: int, after: SettledRoot = FIRST) -> Result:
        """Delete the trees that were settled ``before`` (ms); answers nothing."""
        dropped = self._store.drop_settled_trees(before, MAX_TREES, after)
        last = dropped.last
        return Result(
            answer=Answer(status=200, data=None) if last is None else None,
            rest=None if last is None else lambda _: self.drop_settled_trees(before, last),
            tasks=_negative(Counter({TaskState.FULFILLED: dropped.tasks})),
        )

    def give_back(self) -> Result:
        """Space that deleted trees have left; answers nothing."""
        more = self._store.give_back()
        return Result(
            answer=None if more else Answer(status=200, data=None), rest=(lambda _: self.give_back()) if more else None
        )

    def begin(self, now: int) -> Result:
        """The first piece of work after a start."""
        acquired = self._store.acquired_tasks()
        rows = self._store.load(Footprint(ids=tuple(acquired)))
        result = self._write(kernel.renew_leases(acquired, rows, now, self._rules), rows, now)
        result.effects.append(_refresh)
        result.tasks = self._store.count_tasks()
        return result

    # --- what is owed -----------------------------------------------------------------------------------------------

    def unblocks(self, group: str, pid: str, after: int) -> Result:
        """A portion of what is owed to a listener."""
        found: list[OwedUnblock] = []
        weight, complete = 0, True
        for owed in self._store.unblocks(group, pid, after):
            weight += weight_of(owed.unblock)
            if found and (len(found) == MAX_UNBLOCKS or weight > MAX_UNBLOCK_BYTES):
                complete = False
                break
            found.append(owed)
        return Result(effects=[lambda outbound: outbound.give(group, pid, after, found, complete)])

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
            answer=self._weighed(decision.answer),
            effects=[_effect(message) for message in decision.messages],
            notices=[self._with_function(notice) for notice in decision.notices],
            tasks=_difference(rows.tasks, decision.changes.tasks),
            decided=[Decided(now, rows, decision, request)],
        )

    def _with_function(self, notice: Notice) -> Notice:
        """Rare enough to be looked up."""
        if not isinstance(notice, HandedOutInVain):
            return notice
        id = notice.task.id
        promise = self._store.load(Footprint(ids=(id,), shown=(id,))).promises[id]
        return replace(notice, function=function_name(excerpt(promise.param)))


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


def reset(outbound: Outbound) -> None:
    """The effect of a reset, to be had also while nothing is delivered."""
    outbound.reset()


def _refresh(outbound: Outbound) -> None:
    outbound.refresh()


def _send(message: Message) -> Effect:
    return lambda outbound: outbound.send(message)
