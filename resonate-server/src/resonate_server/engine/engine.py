"""The engine: a queue of jobs, a thread that works them off in batches, an alarm for what is due.

Invariants: an answer is given, and a message leaves, only after the commit that contains it; whatever fails in a
request undoes that request alone; a failing commit undoes and fails the whole batch and sends nothing.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, field

from resonate_server import kernel
from resonate_server.engine.absence import Absences
from resonate_server.engine.clock import Clock
from resonate_server.kernel.model import Decision, Footprint, LeaseLost, Rules, Task, Withdraw
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import Call
from resonate_server.protocol.messages import Execute, Message, Unblock
from resonate_server.protocol.requests import PromiseSearch, TaskAcquire, TaskCreate, TaskHeartbeat, TaskSearch
from resonate_server.store import Store

logger = logging.getLogger(__name__)

MAX_BATCH = 256
"""Requests that share one commit. More would make the first of them wait for the last."""

MAX_DUE = 500
"""Promises, and as many tasks, that one transaction settles or dispatches because their time has come."""

SWEEP_MS = 5_000
"""The alarm goes off at least this often, whatever it was set to: a net under the exact timers."""


class Outbound(Protocol):
    """Where messages go; called on the event loop, after the commit."""

    def send(self, message: Message) -> None: ...

    def withdraw(self, task_id: str) -> None: ...

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None: ...


class _Job(Struct, eq=False):
    """A piece of work for the engine's thread: ``work`` runs inside the transaction, its result goes to ``done``."""

    work: Callable[[int], "_Result"]
    done: asyncio.Future[Answer] | None = None


class _Result(Struct):
    """What one job leaves behind once its transaction is committed."""

    answer: Answer | None = None
    effects: list[Callable[[Outbound], None]] = field(default_factory=list)
    notices: list[LeaseLost] = field(default_factory=list)


class Engine:
    """Owns the store and its thread. Everything public but :meth:`start` is called on the event loop."""

    def __init__(self, store: Store, rules: Rules, clock: Clock, grace_seconds: float) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._alarm: int | None = 0
        self._absences = Absences(grace_seconds, self._release_leases_of)
        self._outbound: Outbound
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, outbound: Outbound) -> None:
        """Start working; what the store still owes to listeners goes to ``outbound`` first."""
        self._loop = asyncio.get_running_loop()
        self._outbound = outbound
        self._jobs.put(_Job(work=lambda _: self._load_outbox()))
        self._thread.start()

    async def stop(self) -> None:
        """Work off what was submitted so far, then end the thread and close the store."""
        self._absences.close()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._store.close()

    async def submit(self, call: Call) -> Answer:
        """The answer to ``call``, once everything it changed is durable. Status 500 if the store failed."""
        if isinstance(call.request, TaskHeartbeat | TaskAcquire | TaskCreate):
            self._absences.heard(call.request.pid)
        return await self._submit(lambda now: self._answer(call, now))

    async def is_ready(self) -> bool:
        """Whether the store answers, right now."""
        answer = await self._submit(self._probe)
        return answer.status == 200

    def worker_connected(self, pid: str) -> None:
        """The process has a stream (again)."""
        self._absences.heard(pid)

    def worker_lost(self, pid: str) -> None:
        """The stream of ``pid`` broke; unless it is heard of soon, its leases are given to others."""
        self._absences.lost(pid)

    def _release_leases_of(self, pid: str) -> None:
        self._jobs.put(_Job(work=lambda now: self._take_back(pid, now)))

    def request_refill(self, group: str, limit: int) -> None:
        """Have the next ``limit`` queued tasks of ``group`` handed to the outbound's ``refill``."""
        self._jobs.put(_Job(work=lambda _: self._refill(group, limit)))

    def forget_stale_unblocks(self, kept_seconds: int) -> None:
        """Forget ``unblock`` messages that nobody has come for in ``kept_seconds``."""
        self._jobs.put(_Job(work=lambda now: self._drop_unblocks_before(now - kept_seconds * 1_000)))

    def delivered(self, unblock: Unblock) -> None:
        """Forget ``unblock``: it was written to a live stream."""
        self._jobs.put(_Job(work=lambda _: self._drop_unblock(unblock)))

    async def _submit(self, work: Callable[[int], _Result]) -> Answer:
        done: asyncio.Future[Answer] = self._loop.create_future()
        self._jobs.put(_Job(work=work, done=done))
        return await done

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            batch, stopping = self._next_batch()
            self._work_off(batch)
            if stopping:
                return

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """What has queued up, waiting for the first of it or for the alarm. The flag tells that no more will come."""
        batch: list[_Job] = []
        try:
            job = self._jobs.get(timeout=self._seconds_to_alarm())
            while job is not None and len(batch) < MAX_BATCH:
                batch.append(job)
                job = self._jobs.get_nowait()
        except queue.Empty:
            return batch, False
        if job is None:
            return batch, True
        batch.append(job)
        return batch, False

    def _seconds_to_alarm(self) -> float:
        wait = SWEEP_MS if self._alarm is None else min(self._alarm - self._clock(), SWEEP_MS)
        return max(wait, 0) / 1_000

    def _work_off(self, batch: list[_Job]) -> None:
        try:
            results, ticked = self._transact(batch)
        except Exception:
            logger.exception("the store failed; %d requests are answered with an error", len(batch))
            self._alarm = self._clock() + 1_000
            results, ticked = [_failure() for _ in batch], []
        jobs_and_results = list(zip(batch, results, strict=True))
        self._loop.call_soon_threadsafe(self._publish, jobs_and_results, ticked)

    def _transact(self, batch: list[_Job]) -> tuple[list[_Result], list[_Result]]:
        with self._store.transaction():
            now = self._clock()
            results = [self._guarded(job, now) for job in batch]
            ticked = self._tick(now)
            self._alarm = self._store.next_due()
        return results, ticked

    def _guarded(self, job: _Job, now: int) -> _Result:
        """A job that fails takes back only what it wrote itself."""
        try:
            with self._store.savepoint():
                return job.work(now)
        except Exception:
            logger.exception("a request failed and changed nothing")
            return _failure()

    # --- work inside a transaction ----------------------------------------------------------------------------------

    def _answer(self, call: Call, now: int) -> _Result:
        match call.request:
            case PromiseSearch() as search:
                settled = self._tick_all(now)
                settled.answer = kernel.answer_promise_search(search, self._store.search_promises(search))
                return settled
            case TaskSearch() as search:
                settled = self._tick_all(now)
                settled.answer = kernel.answer_task_search(search, self._store.search_tasks(search))
                return settled
        rows = self._store.load(kernel.footprint(call.request))
        return self._commit(kernel.apply(call, rows, now, self._rules), now)

    def _tick(self, now: int) -> list[_Result]:
        """One portion of what is due; the rest sets the alarm off at once."""
        due = self._store.due(now, MAX_DUE)
        if not (due.promises or due.tasks):
            return []
        rows = self._store.load(due.footprint)
        return [self._commit(kernel.tick(due, rows, now, self._rules), now)]

    def _tick_all(self, now: int) -> _Result:
        """All that is due, so that a search shows nothing as pending that is past its deadline."""
        total = _Result()
        while portion := self._tick(now):
            total.effects.extend(portion[0].effects)
            total.notices.extend(portion[0].notices)
        return total

    def _commit(self, decision: Decision, now: int) -> _Result:
        if decision.changes:
            self._store.write(decision.changes)
        for message in decision.messages:
            if isinstance(message, Unblock):
                self._store.put_unblock(message, now)
        effects = [_effect(message) for message in decision.messages]
        return _Result(answer=decision.answer, effects=effects, notices=decision.notices)

    def _take_back(self, pid: str, now: int) -> _Result:
        held = self._store.held_tasks(pid)
        rows = self._store.load(Footprint(ids=tuple(held)))
        return self._commit(kernel.release_leases(pid, held, rows, now, self._rules), now)

    def _load_outbox(self) -> _Result:
        """After a start: the kept ``unblock`` messages. Queued tasks are asked for as workers connect."""
        return _Result(effects=[_effect(unblock) for unblock in self._store.unblocks()])

    def _refill(self, group: str, limit: int) -> _Result:
        tasks = self._store.queued_tasks(group, limit)
        messages, complete = [_execute(task) for task in tasks], len(tasks) < limit
        return _Result(effects=[lambda outbound: outbound.refill(group, messages, complete)])

    def _drop_unblock(self, unblock: Unblock) -> _Result:
        self._store.drop_unblock(unblock.promise.id, unblock.address)
        return _Result()

    def _drop_unblocks_before(self, time: int) -> _Result:
        self._store.drop_unblocks_before(time)
        return _Result()

    def _probe(self, now: int) -> _Result:
        self._store.due(now, 1)
        return _Result(answer=Answer(status=200, data=None))

    # --- back on the event loop -------------------------------------------------------------------------------------

    def _publish(self, worked: list[tuple[_Job, _Result]], ticked: list[_Result]) -> None:
        for job, result in worked:
            if job.done is not None and result.answer is not None and not job.done.done():
                job.done.set_result(result.answer)
        for result in [*(result for _, result in worked), *ticked]:
            for notice in result.notices:
                logger.info("lease lost: task %s, held by %s, is offered again", notice.task_id, notice.pid[:8])
            for effect in result.effects:
                effect(self._outbound)


def _failure() -> _Result:
    return _Result(answer=Answer(status=500, data="the server could not store this request; nothing was changed"))


def _execute(task: Task) -> Execute:
    return Execute(task_id=task.id, version=task.version, target=task.target)


def _effect(message: Message | Withdraw) -> Callable[[Outbound], None]:
    if isinstance(message, Withdraw):
        return lambda outbound: outbound.withdraw(message.task_id)
    return lambda outbound: outbound.send(message)
