"""The engine: turns requests into questions to the store, and tells delivery, metrics and observers what was decided.

It knows neither transactions nor batches: ``await store.decide(footprint, rule)`` is the only way to change anything.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from itertools import batched
from typing import Any, Concatenate

from msgspec.structs import replace

from resonate_server import kernel
from resonate_server.delivery.unblocks import weight_of
from resonate_server.engine import queries
from resonate_server.engine.outbound import DecisionObserver, Outbound
from resonate_server.engine.patience import Patience
from resonate_server.engine.reports import failing_tasks, lost_leases, report, tell_of_trouble
from resonate_server.kernel.model import Footprint, Rule, Rules, Task, Withdraw
from resonate_server.metrics import Metrics
from resonate_server.protocol.address import group_of
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.envelope import CheckedRequest, Envelope
from resonate_server.protocol.errors import Malformed
from resonate_server.protocol.messages import Execute, OwedUnblock, UnblockKey
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import (
    MAX_INTEGER,
    DebugReset,
    DebugSnap,
    DebugStart,
    DebugStop,
    DebugTick,
    PromiseSearch,
    Request,
    ScheduleSearch,
    Search,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskHeartbeat,
    TaskSearch,
    TaskSuspend,
)
from resonate_server.store import Decided, Store
from resonate_server.store.errors import ReadFailed
from resonate_server.store.in_flight import InFlightTasks
from resonate_server.store.outgoing import weighed
from resonate_server.store.view import View, portions_of_claims
from resonate_server.trace import Trace

logger = logging.getLogger(__name__)

MAX_RECALLED = 100
"""Set-aside tasks that are offered again when a worker connects; the others wait out their pause."""

MAX_UNBLOCKS = 256
MAX_UNBLOCK_BYTES = 1_024 * 1_024
"""Limits on one load of ``unblock`` messages. A larger message is loaded by itself."""

MAX_LEASES = 200
"""Most leases that one transaction extends or takes back."""

MAX_CLAIMS = 10_000
"""Most claims that are listed at once."""

PATIENCE_S = 10.0
"""How long a request waits for one batch of due work."""

BEAT_S = 0.5
AWAY_MS = 2_000
"""A longer time without a sign of the store does not count for leases: heartbeats may have gone unrecorded."""
UNKNOWN_MS = MAX_INTEGER
"""How long no server was running: leases that lost so much start again."""

PAUSE_AFTER_FAILURE_S = 1.0
"""Pause before retrying the engine's own work, which nobody else retries."""


def _in_background[**P](
    work: "Callable[Concatenate[Engine, P], Coroutine[Any, Any, None]]",
) -> "Callable[Concatenate[Engine, P], None]":
    """Make a method of the engine begin its work and return."""

    def begin(engine: "Engine", /, *args: P.args, **named: P.kwargs) -> None:
        engine._in_flight.begin(work(engine, *args, **named))

    return begin


class Engine:
    """All public methods are called on the event loop. ``keep_settled_ms``: age at which settled trees are deleted, 0
    for never."""

    def __init__(self, store: Store, rules: Rules, metrics: Metrics, server_url: str, keep_settled_ms: int = 0) -> None:
        self._store = store
        self.now = store.now
        """Returns the server's time, in ms since the epoch."""
        self._rules = rules
        self._server_url = server_url
        self._keep_settled_ms = keep_settled_ms
        self._metrics = metrics
        self._in_flight = InFlightTasks()
        self._patience = Patience()
        self._unpaused = asyncio.Event()
        """Cleared by ``debug.start``: then nothing happens by itself, and nothing is delivered."""
        self._unpaused.set()
        self._in_touch_at = 0
        """When the store last showed that it can record heartbeats (ms)."""
        self._giving_back = asyncio.Lock()
        self._outbound: Outbound
        self.observers: list[DecisionObserver] = []
        self.trace: Trace | None = None
        """Set both before :meth:`start`."""

    def start(self, outbound: Outbound) -> None:
        """Start working, and have ``outbound`` request everything undelivered.

        Renew all leases if no other server was running: nobody could receive heartbeats. Later, the time in which this
        server was frozen, its machine asleep, or its store did not work does not count for leases.
        """
        self._outbound = outbound
        self._store.start(self)
        self._in_flight.begin(self._run_loop())

    async def stop(self) -> None:
        """Finish what was submitted so far, then close the store."""
        self._patience.end()
        await asyncio.sleep(0)  # Let patient suspensions reach the store.
        await self._store.close()
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def submit(self, checked: CheckedRequest, envelope: Envelope | None = None) -> asyncio.Future[Answer]:
        """Return a future of the answer, set once every change is durable. Status 503 if the store failed.

        ``envelope``: the request as sent, for the trace.
        """
        if self.trace is None or envelope is None:
            return self._ask(checked)
        trace, request = self.trace, checked.request
        trace.asks(request, envelope)
        answer = self._ask(checked)
        answer.add_done_callback(lambda _: trace.forget(request))
        return answer

    def _ask(self, checked: CheckedRequest) -> asyncio.Future[Answer]:
        request = checked.request
        match request:  # the most frequent first
            case TaskFence() | TaskFulfill():
                pass
            case TaskAcquire(pid=pid) | TaskCreate(pid=pid):
                self._outbound.heard_from(pid, checked.prefix)
            case TaskSuspend(patience=ms) if ms:
                return self._in_flight.begin(self._suspend_patiently(checked, request))
            case TaskHeartbeat(pid=pid, tasks=tasks):
                self._outbound.heard_from(pid, checked.prefix)
                if len(tasks) > MAX_LEASES:
                    return self._in_flight.begin(self._answer(checked, self._beat_in_portions(checked, request)))
            case PromiseSearch() | TaskSearch() | ScheduleSearch():
                return self._in_flight.begin(self._answer(checked, self._search(checked, request)))
            case DebugStart() | DebugStop() | DebugReset() | DebugTick() | DebugSnap():
                return self._in_flight.begin(self._answer(checked, self._debug(request, checked.debug_time)))
        return self._store.decide(*kernel.answering(checked, self._rules))

    def answered(self, answer: Answer) -> None:
        """Report that ``answer`` was written out and its data may be freed. Call once for each that has a weight."""
        self._store.outgoing.left(answer)

    async def read[T](self, query: Callable[[View], T]) -> T:
        """Run ``query`` on the committed rows when nothing is more urgent. Raises :class:`ReadFailed`."""
        return await self._store.browse(query)

    async def drop_settled_trees(self) -> None:
        """Delete settled trees older than the configured age, in small transactions. Raises :class:`ReadFailed`."""
        if self._keep_settled_ms and self._unpaused.is_set():
            before = self.now() - self._keep_settled_ms
            async for tasks in self._store.drop_settled_trees(before):
                self._metrics.tasks_changed({TaskState.FULFILLED: -tasks})

    async def count_tasks(self) -> None:
        """Recount all tasks, whichever server created them. Raises :class:`ReadFailed`."""
        self._metrics.set_tasks(await self._store.browse(lambda view: view.count_tasks()))

    # --- requests that take more than one question ------------------------------------------------------------------

    async def _answer(self, checked: CheckedRequest, work: Awaitable[Answer]) -> Answer:
        try:
            answer = await work
        except ReadFailed as error:
            return Answer(status=503, data=str(error))
        if self.trace is not None:
            self.trace.answers(checked.request, self._time_of(checked), answer, self._store.due_at)
        return answer

    def _time_of(self, checked: CheckedRequest) -> int:
        match checked:
            case CheckedRequest(request=DebugTick(time=time)) | CheckedRequest(debug_time=int(time)):
                return time
        return self.now()

    async def _beat_in_portions(self, checked: CheckedRequest, beat: TaskHeartbeat) -> Answer:
        """Extend the leases portion by portion: they do not depend on each other."""
        for tasks in batched(beat.tasks, MAX_LEASES):
            portion = replace(checked, request=replace(beat, tasks=list(tasks)))
            answer = await self._store.decide(*kernel.answering(portion, self._rules))
            if answer.status != 200:
                break
        return answer

    async def _suspend_patiently(self, checked: CheckedRequest, suspend: TaskSuspend) -> Answer:
        await self._patience.wait(suspend.awaited, suspend.patience / 1_000)
        return await self._store.decide(*kernel.answering(checked, self._rules))

    async def _search(self, checked: CheckedRequest, search: Search) -> Answer:
        """Do all due work first, so that nothing past its deadline shows as pending. What becomes due while the answer
        is made is not in it, so the trace has the time at which the search began."""
        await self._tick(checked.debug_time)
        now, due_at = self._time_of(checked), self._store.due_at
        answer = weighed((await queries.find(self._store, search, now)).answer())
        self._store.outgoing.leaves(answer)
        if self.trace is not None:
            recorded = max(now, self.trace.last) if checked.debug_time is None else now
            self.trace.answers(search, recorded, answer, due_at)
            self.trace.forget(search)
        return answer

    async def _tick(self, at: int | None, request: Request | None = None) -> None:
        """Do all due work for a waiting request. Raises :class:`ReadFailed`."""
        try:
            while True:
                async with asyncio.timeout(PATIENCE_S):
                    if not await self._do_due_work(request, at):
                        return
        except TimeoutError:
            raise ReadFailed("the store does not answer; try again") from None

    async def _debug(self, request: Request, debug_time: int | None) -> Answer:
        match request:
            case DebugStart() if self._store.sharing is not None and self._store.sharing.has_others:
                sentence = "other servers use the same database and would not pause; stop them first"
                return Answer(status=409, data=sentence)
            case DebugStart():
                self._unpaused.clear()
            case DebugStop():
                self._unpaused.set()
                self._outbound.refresh()
            case DebugReset():
                there_were = await self._store.reset()
                self._metrics.tasks_changed({state: -count for state, count in there_were.items()})
                self._outbound.reset()
            case DebugTick(time=time) if debug_time not in (None, time):
                error = Malformed("data.time must equal the head's resonate:debug_time")
                return Answer(status=error.status, data=error.message)
            case DebugTick(time=time):
                await self._tick(time, request)
                return Answer(status=200, data=[])
            case DebugSnap():
                return await self._store.browse(lambda view: queries.snap(view, self._server_url))
        return Answer(status=200, data=Nothing())

    # --- background work --------------------------------------------------------------------------------------------

    async def _run_loop(self) -> None:
        self._metrics.tasks_changed(await self._retry(self._begin))
        self._in_touch_at = self.now()
        self._in_flight.begin(self._keep_in_touch())
        self._outbound.refresh()
        while True:
            await self._store.until_due()
            await self._unpaused.wait()
            await self._retry(self._do_due_work)

    async def _do_due_work(self, request: Request | None = None, at: int | None = None) -> bool:
        """Do one batch; return whether anything changed. Raises :class:`ReadFailed`."""
        since = self._in_touch_at
        not_after = since + AWAY_MS if at is None else None
        done = (await self._act(*kernel.due(self._rules, request, at, not_after))).data
        if done is None:
            await self._give_back_time(since)
            done = (await self._act(*kernel.due(self._rules, request, at))).data
        return bool(done)

    async def _keep_in_touch(self) -> None:
        """Notice by the clock that this process stood still, and by asking that the store did not work."""
        while True:
            await asyncio.sleep(BEAT_S)
            if await self._store.trouble():
                continue
            if self._unpaused.is_set() and self.now() - self._in_touch_at > AWAY_MS:
                with suppress(ReadFailed):  # This is tried again at the next beat.
                    await self._give_back_time(self._in_touch_at)
            else:
                self._in_touch_at = self.now()

    async def _give_back_time(self, since: int) -> None:
        """Have leases last longer by the time in which no heartbeat could be recorded, from ``since`` (ms) until now:
        so a server that stands still again and again gives up dead workers, too. Due work and the beat may notice the
        same. Raises :class:`ReadFailed`."""
        async with self._giving_back:
            if self._in_touch_at == since:
                lost_ms = self.now() - since
                await self._renew_leases(lost_ms)
                logger.warning("%.1f s have passed without heartbeats: all leases last longer", lost_ms / 1_000)
                self._in_touch_at = self.now()

    async def _begin(self) -> Counter[TaskState]:
        """Count tasks before any request, and have leases start again if need be."""
        async with self._store.beginning() as nobody_was_at_work:
            counting = self._store.read(lambda view: view.count_tasks())
            if nobody_was_at_work:
                await asyncio.gather(counting, self._renew_leases(UNKNOWN_MS))
            return await counting

    async def _renew_leases(self, lost_ms: int) -> None:
        """In portions, because there may be very many. Raises :class:`ReadFailed`."""
        async for claims in portions_of_claims(self._store.read, MAX_CLAIMS):
            for ids in batched((task.id for task in claims), MAX_LEASES):
                await self._renew_some(ids, lost_ms)

    async def _renew_some(self, ids: tuple[str, ...], lost_ms: int) -> None:
        """A lease that cannot be renewed, which the store reports, holds up no other."""
        answer = await self._store.decide(*kernel.renewing(ids, self._rules, lost_ms))
        if answer.status == 500 and len(ids) > 1:
            for id in ids:
                await self._renew_some((id,), lost_ms)
        elif answer.status != 500:
            _raise_if_failed(answer)

    async def _act(self, footprint: Footprint, rule: Rule) -> Answer:
        """Raises :class:`ReadFailed`."""
        answer = await self._store.decide(footprint, rule)
        _raise_if_failed(answer)
        return answer

    async def _retry[T](self, ask: Callable[[], Awaitable[T]]) -> T:
        """Retry after a pause as long as the store fails: nobody else would."""
        while True:
            try:
                return await ask()
            except ReadFailed:
                await asyncio.sleep(PAUSE_AFTER_FAILURE_S)

    async def _act_with_retry(self, footprint: Footprint, rule: Rule) -> None:
        await self._retry(lambda: self._act(footprint, rule))

    async def _read_with_retry[T](self, query: Callable[[View], T]) -> T:
        return await self._retry(lambda: self._store.read(query))

    # --- called by delivery (delivery.hub.MessageSource) ------------------------------------------------------------

    @_in_background
    async def request_refill(self, group: str, limit: int) -> None:
        tasks = await self._read_with_retry(lambda view: view.queued_tasks(group, limit))
        if self._unpaused.is_set():
            self._outbound.refill(group, [task.execute() for task in tasks], len(tasks) < limit)

    @_in_background
    async def request_recall(self, group: str) -> None:
        if self._unpaused.is_set():
            ids = await self._read_with_retry(lambda view: view.set_aside_tasks(group, MAX_RECALLED))
            await self._act_with_retry(*kernel.recalling(tuple(ids), self._rules))

    @_in_background
    async def request_unblocks(self, group: str, pid: str, after: int) -> None:
        owed, complete = await self._read_with_retry(lambda view: _portion_of_unblocks(view, group, pid, after))
        if self._unpaused.is_set():
            self._outbound.give(group, pid, after, owed, complete)

    def delivered(self, key: UnblockKey) -> None:
        self._store.delivered(key)

    @_in_background
    async def unclaimed(self, group: str, pid: str, executes: list[Execute]) -> None:
        if self._unpaused.is_set():
            await self._act_with_retry(*kernel.setting_aside(executes, self._rules))
            if await self._read_with_retry(lambda view: view.held_tasks(pid)):
                self._outbound.is_at_work(group, pid)

    @_in_background
    async def forget_stale_unblocks(self, kept_seconds: int) -> None:
        """Delete ``unblock`` messages not fetched for ``kept_seconds``."""
        if self._unpaused.is_set():
            with suppress(ReadFailed):  # This is requested again soon.
                await self._store.drop_unblocks_before(self.now() - kept_seconds * 1_000)

    def settled_elsewhere(self, ids: list[str]) -> None:
        """Wake suspensions that wait for promises settled by another server."""
        self._patience.settled(ids)

    @_in_background
    async def worker_gone(self, group: str, pid: str) -> None:
        """Give others the tasks of the group that the process was offered or holds."""
        self._outbound.fell_silent(group, pid)
        for ids in batched(await self._read_with_retry(lambda view: view.held_tasks(pid)), MAX_LEASES):
            await self._act_with_retry(*kernel.releasing(group, pid, ids, self._rules))

    # --- called by the store (store.Listener) -----------------------------------------------------------------------

    def committed(self, decisions: int, seconds: float) -> None:
        self._metrics.commit(decisions, seconds)

    def decided(self, decided: Decided) -> None:
        decision = decided.decision
        lost = [*lost_leases(decided)]
        report(decided, lost, self._metrics)
        if self.trace is not None and not isinstance(decided.request, DebugTick):
            self.trace.answers(decided.request, decided.now, decision.answer, self._store.due_at)
        for observer in self.observers:
            observer.decided(decided)
        if settled := [promise for promise in decision.changes.promises.values() if _ends_waiting(promise)]:
            self._patience.settled(promise.id for promise in settled)
            self._outbound.settled([promise.id for promise in settled if promise.is_below])
        for task in lost:
            self._outbound.fell_silent(group_of(task.target) or "", task.pid or "")
        for task in failing_tasks(decided):
            self._report_failures(task)
        if not self._unpaused.is_set() or isinstance(decided.request, DebugTick):
            return
        for message in decision.messages:
            if isinstance(message, Withdraw):
                self._outbound.withdraw(message.task_id, message.version)
            else:
                self._outbound.send(message)

    @_in_background
    async def _report_failures(self, task: Task) -> None:
        """Look up the task's function for the log: this is rare enough."""
        promises = await self._read_with_retry(lambda view: view.promises((task.id,)))
        if task.id in promises:
            tell_of_trouble(task, promises[task.id])


def _raise_if_failed(answer: Answer) -> None:
    if answer.status != 200:
        raise ReadFailed(answer.data)


def _ends_waiting(promise: Promise) -> bool:
    """Return whether others may have waited for it, and it is settled."""
    return promise.is_external and promise.state is not PromiseState.PENDING


def _portion_of_unblocks(view: View, group: str, pid: str, after: int) -> tuple[list[OwedUnblock], bool]:
    """Return a portion of what a listener is owed, and whether it is the last."""
    found: list[OwedUnblock] = []
    weight = 0
    for owed in view.unblocks(group, pid, after):
        weight += weight_of(owed.unblock)
        if found and (len(found) == MAX_UNBLOCKS or weight > MAX_UNBLOCK_BYTES):
            return found, False
        found.append(owed)
    return found, True
