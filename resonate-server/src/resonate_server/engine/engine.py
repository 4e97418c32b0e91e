"""The engine: a queue of jobs, a thread that works them off in batches, an alarm for what is due.

Invariants: an answer is given, and a message leaves, only after the commit that contains it; whatever fails in a
request undoes that request alone; a failing commit undoes and fails the whole batch and sends nothing.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.engine.absence import Absences
from resonate_server.engine.clock import Clock
from resonate_server.engine.observer import Nobody, Observer
from resonate_server.engine.work import Outbound, Result, Work
from resonate_server.kernel.model import LeaseLost, Notice, PromiseSettled, Rules, ScheduleFired, TaskClaimed
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import Call
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.requests import TaskAcquire, TaskCreate, TaskHeartbeat
from resonate_server.store import Store

logger = logging.getLogger(__name__)

MAX_BATCH = 256
"""Requests that share one commit. More would make the first of them wait for the last."""

SWEEP_MS = 5_000
"""The alarm goes off at least this often, whatever it was set to: a net under the exact timers."""

PAUSE_AFTER_FAILURE_MS = 1_000
"""A store that failed is not asked again for what is due before this."""


class EngineSettings(Struct, frozen=True):
    """``grace_seconds``: see :class:`Absences`.

    ``keep_settled_ms``: age at which settled trees are deleted, 0 for never.
    """

    rules: Rules
    grace_seconds: float
    server_url: str
    keep_settled_ms: int = 0


class ReadFailed(Exception):
    """The store could not be read; the log says why."""


class _Job(Struct, eq=False):
    """Work for the engine's thread: ``work(now)`` runs inside the transaction, its answer goes to ``done``."""

    work: Callable[[int], Result]
    done: asyncio.Future[Answer] | None = None
    retry: bool = False
    """Begin again after a pause if it failed: nobody else would."""


class Engine:
    """Owns the store and its thread. Everything public is called on the event loop."""

    def __init__(self, store: Store, settings: EngineSettings, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._work = Work(store, settings.rules, settings.server_url)
        self._absences = Absences(settings.grace_seconds, self._take_back_leases)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._delivered: deque[Unblock] = deque()
        self._alarm: int | None = 0
        self._outbound: Outbound
        self.observer: Observer = Nobody()
        """To be set before :meth:`start`."""
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, outbound: Outbound) -> None:
        """Start working; what the store still owes to listeners goes to ``outbound`` first.

        Leases begin anew: while the server was away it could not hear the heartbeats of those who are still at work.
        """
        self._loop = asyncio.get_running_loop()
        self._outbound = outbound
        self._enqueue(self._work.begin)
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
            self._outbound.heard(call.request.pid)
        return await self._submit(lambda now: self._work.answer(call, now))

    async def read[T](self, query: Callable[[Store], T]) -> T:
        """What ``query`` finds among the committed rows; others wait meanwhile. Raises :class:`ReadFailed`."""
        answer = await self._submit(lambda _: Result(answer=Answer(status=200, data=query(self._store))))
        if answer.status != 200:
            raise ReadFailed
        return cast("T", answer.data)

    async def is_ready(self) -> bool:
        """Whether the store answers, right now."""
        answer = await self._submit(self._probe)
        return answer.status == 200

    async def drop_settled_trees(self) -> None:
        """Delete settled trees that are past the configured age, in small transactions."""
        while self._settings.keep_settled_ms:
            answer = await self._submit(self._drop_settled_trees)
            if not answer.data or answer.status != 200:
                return

    # --- what delivery reports (delivery.Owner) ---------------------------------------------------------------------

    def request_refill(self, group: str, limit: int) -> None:
        self._enqueue(lambda _: self._work.refill(group, limit))

    def delivered(self, unblock: Unblock) -> None:
        """The store forgets it with the next commit: that needs none of its own, and sending it twice does no harm."""
        self._delivered.append(unblock)

    def forget_stale_unblocks(self, kept_seconds: int) -> None:
        """Forget ``unblock`` messages that nobody has come for in ``kept_seconds``."""
        self._enqueue(lambda now: self._drop_unblocks_before(now - kept_seconds * 1_000))

    def worker_connected(self, pid: str) -> None:
        self._absences.heard(pid)

    def worker_lost(self, pid: str) -> None:
        """Unless it is heard of soon, its leases are given to others."""
        self._absences.lost(pid)

    def _take_back_leases(self, pid: str) -> None:
        self.observer.gone(pid)
        self._enqueue(lambda now: self._work.take_back(pid, now))

    # --- the queue --------------------------------------------------------------------------------------------------

    def _enqueue(self, work: Callable[[int], Result]) -> None:
        self._jobs.put(_Job(work=work, retry=True))

    async def _submit(self, work: Callable[[int], Result]) -> Answer:
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
            while job is not None:
                batch.append(job)
                if len(batch) == MAX_BATCH:
                    return batch, False
                job = self._jobs.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _seconds_to_alarm(self) -> float:
        wait = SWEEP_MS if self._alarm is None else min(self._alarm - self._clock(), SWEEP_MS)
        return max(wait, 0) / 1_000

    def _work_off(self, batch: list[_Job]) -> None:
        began = time.perf_counter()
        try:
            results = self._transact(batch)
        except Exception:
            logger.exception("the store failed; %d requests are answered with an error", len(batch))
            self._alarm = self._clock() + PAUSE_AFTER_FAILURE_MS
            results = [_failure() for _ in batch]
        self._metrics.commit(len(batch), time.perf_counter() - began)
        self._loop.call_soon_threadsafe(self._publish, batch, results)

    def _transact(self, batch: list[_Job]) -> list[Result]:
        """A result for each job, and one more for what was due."""
        with self._store.transaction():
            now = self._clock()
            self._forget_delivered()
            results = [self._guarded(job, now) for job in batch]
            if self._work.paused:
                self._alarm = None
                return [replace(result, effects=[]) for result in results]
            ticked = self._guarded(_Job(work=lambda now: self._work.tick(now) or Result()), now)
            self._alarm = now + PAUSE_AFTER_FAILURE_MS if ticked.failed else self._store.next_due()
        return [*results, ticked]

    def _guarded(self, job: _Job, now: int) -> Result:
        """A job that fails takes back only what it wrote itself."""
        try:
            with self._store.savepoint():
                return job.work(now)
        except Exception:
            logger.exception("a piece of work failed and changed nothing")
            return _failure()

    def _forget_delivered(self) -> None:
        while self._delivered:
            unblock = self._delivered.popleft()
            self._store.drop_unblock(unblock.promise.id, unblock.address)

    def _drop_unblocks_before(self, time: int) -> Result:
        self._store.drop_unblocks_before(time)
        return Result()

    def _drop_settled_trees(self, now: int) -> Result:
        return self._work.drop_settled_trees(now - self._settings.keep_settled_ms)

    def _probe(self, now: int) -> Result:
        self._store.due(now, 1)
        return Result(answer=Answer(status=200, data=None))

    # --- back on the event loop -------------------------------------------------------------------------------------

    def _publish(self, batch: list[_Job], results: list[Result]) -> None:
        for job, result in zip(batch, results, strict=False):
            if job.done is not None and result.answer is not None and not job.done.done():
                job.done.set_result(result.answer)
            if job.retry and result.failed:
                self._loop.call_later(PAUSE_AFTER_FAILURE_MS / 1_000, self._jobs.put, job)
        for result in results:
            self._metrics.tasks_changed(result.tasks)
            for decided in result.decided:
                self.observer.decided(decided)
            for notice in result.notices:
                self._take_notice(notice)
            for effect in result.effects:
                effect(self._outbound)

    def _take_notice(self, notice: Notice) -> None:
        match notice:
            case LeaseLost(task_id=task_id, pid=pid):
                self._metrics.lease_lost()
                self._outbound.silent(pid)
                logger.info("lease lost: task %s, held by %s, is offered again", task_id, pid[:8])
            case TaskClaimed(waited_ms=waited_ms, recovery_ms=recovery_ms):
                self._metrics.claimed(waited_ms, recovery_ms)
            case PromiseSettled(pending_ms=pending_ms):
                self._metrics.settled(pending_ms)
            case ScheduleFired():
                self._metrics.schedule_fired()


def _failure() -> Result:
    answer = Answer(status=500, data="the server could not store this request; nothing was changed")
    return Result(answer=answer, failed=True)
