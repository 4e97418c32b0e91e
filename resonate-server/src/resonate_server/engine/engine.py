"""The engine: a queue of jobs that are worked off in batches, and an alarm for what is due.

Deciding is quick and happens on the event loop; what waits for the disk, and what may take long, happens on a thread,
and the loop goes on reading requests meanwhile. One batch is under way at a time, so the store is never used by both.

Invariants: an answer is given, and a message leaves, only after the commit that contains it; a request that fails
changes nothing; a failing commit undoes and fails the whole batch and sends nothing.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.engine.clock import MARK_MS, Clock
from resonate_server.engine.health import CommitAge, StoreHealth
from resonate_server.engine.observer import Nobody, Observer
from resonate_server.engine.outgoing import MAX_HELD_BACK
from resonate_server.engine.thread import WorkThread
from resonate_server.engine.work import Outbound, Piece, Result, Work, reset
from resonate_server.kernel.model import (
    HandedOutInVain,
    LeaseLost,
    Notice,
    PromiseSettled,
    Rules,
    RunsSkipped,
    ScheduleFired,
    TaskClaimed,
)
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import Call
from resonate_server.protocol.messages import Execute, UnblockKey
from resonate_server.protocol.requests import (
    DebugReset,
    DebugSnap,
    DebugTick,
    PromiseSearch,
    Request,
    ScheduleSearch,
    TaskAcquire,
    TaskCreate,
    TaskHeartbeat,
    TaskSearch,
    TaskSuspend,
)
from resonate_server.store import DiskUse, Store, StoreFailed, StoreLost

logger = logging.getLogger(__name__)

MAX_BATCH = 256
"""Requests that share one commit. More would make the first of them wait for the last."""

MAX_FORGOTTEN = 500
"""Delivered messages that one commit has the store forget."""
MAX_DECIDING_S = 0.01
"""After this time no further request is taken into a batch: the event loop has other work, too."""

MAX_QUICK = 20
"""Ids that a request may name to be decided on the event loop."""

SWEEP_MS = 1_000
"""What is due, and whether the store is still there, is looked at least this often."""

NEVER = 2**63

PAUSE_AFTER_FAILURE_MS = 1_000
"""A store that failed is not asked again for what is due before this."""

LONG = (PromiseSearch, TaskSearch, ScheduleSearch, DebugReset, DebugSnap, DebugTick)
"""Kinds that may go over all rows there are."""


class Pace(Enum):
    """How a job is done. What is not quick is done on the thread, in a transaction of its own."""

    QUICK = "decided on the event loop, in a transaction with those that came with it"
    ALONE = "when it is its turn"
    PATIENT = "when it is its turn among its like, of which only one is done before others have theirs"


class EngineSettings(Struct, frozen=True):
    """``keep_settled_ms``: age at which settled trees are deleted, 0 for never."""

    rules: Rules
    server_url: str
    keep_settled_ms: int = 0


class ReadFailed(Exception):
    """The store could not be read; the log says why."""


class Job(Struct, eq=False):
    """``work(now)`` runs inside a transaction; its answer goes to ``done``.

    ``retry``: begin again after a pause if it failed, as nobody else would.
    """

    work: Piece
    done: asyncio.Future[Answer] | None = None
    pace: Pace = Pace.ALONE
    retry: bool = False


class Engine:
    """Owns the store. Everything public is called on the event loop."""

    def __init__(self, store: Store, settings: EngineSettings, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._work = Work(store, settings.rules, settings.server_url)
        self._thread = WorkThread("store")
        self._jobs: deque[Job] = deque()
        self._patient: deque[Job] = deque()
        self._held_back: deque[Job] = deque()
        """Until large answers have left."""
        self._awake = asyncio.Event()
        self._stopping = False
        self._delivered: deque[UnblockKey] = deque()
        self._health = StoreHealth()
        self._marked = 0
        """When the last mark of the clock was written (ms)."""
        self._alarm = 0
        """When something is due (ms); nothing is before that."""
        self._outbound: Outbound
        self.observer: Observer = Nobody()
        """To be set before :meth:`start`."""
        self._loop: asyncio.AbstractEventLoop
        self._running: asyncio.Task[None]
        self.lost: asyncio.Future[str]
        """Its result is for people: the store was taken away, and there is nothing to go on with."""

    def start(self, outbound: Outbound) -> None:
        """Start working; ``outbound`` is asked to ask for what the store still owes.

        Leases begin anew: while the server was away it could not hear the heartbeats of those who are still at work.
        """
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self._outbound = outbound
        self._thread.start()
        self._enqueue(self._work.begin)
        self._running = self._loop.create_task(self._run())

    async def stop(self) -> None:
        """Work off what was submitted so far, then close the store."""
        self._stopping = True
        self._awake.set()
        await self._running
        for job in self._held_back:
            _tell(job, _stops())
        self._thread.stop()
        self._store.close()

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """The answer to ``call``, once everything it changed is durable. Status 503 if the store failed."""
        if isinstance(call.request, TaskHeartbeat | TaskAcquire | TaskCreate):
            self._outbound.heard(call.request.pid)
        return self._submit(lambda now: self._work.answer(call, now), _pace(call.request))

    def answered(self, answer: Answer) -> None:
        """It is written out, and its data not needed any more: to be called once for every answer."""
        if answer.weight:
            self._work.outgoing.left(answer.weight)
            self._resume_one_held_back()

    async def read[T](self, query: Callable[[Store], T]) -> T:
        """What ``query`` finds among the committed rows; others wait meanwhile. Raises :class:`ReadFailed`."""
        answer = await self._submit(lambda _: Result(answer=Answer(status=200, data=query(self._store))), Pace.PATIENT)
        if answer.status != 200:
            raise ReadFailed
        return cast("T", answer.data)

    def now(self) -> int:
        """The server's time, in ms since the epoch."""
        return self._clock()

    async def trouble(self) -> str:
        """Why nothing can be stored, right now, for people; empty if all is well."""
        answer = await self._submit(self._probe, Pace.ALONE)
        return "" if answer.status == 200 else self._health.trouble

    @property
    def last_commit(self) -> CommitAge | None:
        """``None`` before the first one."""
        return self._health.commit

    def disk_use(self) -> DiskUse | None:
        """``None`` if nothing is on a disk. Raises :class:`OSError` if the file cannot be found."""
        return self._store.disk_use()

    async def backup(self) -> Path | None:
        """A copy of the database in a file of its own, which is the caller's to remove; ``None`` if there is no file.

        Everything else goes on meanwhile. Raises what the store raises if the copy cannot be made.
        """
        return await asyncio.to_thread(self._store.backup)

    async def drop_settled_trees(self) -> None:
        """Delete settled trees that are past the configured age, in small transactions."""
        if self._settings.keep_settled_ms:
            await self._submit(self._drop_settled_trees, Pace.PATIENT)
            await self._submit(lambda _: self._work.give_back(), Pace.PATIENT)

    # --- what delivery reports (delivery.Owner) ---------------------------------------------------------------------

    def request_refill(self, group: str, limit: int) -> None:
        self._enqueue(lambda _: self._work.refill(group, limit))

    def request_recall(self, group: str) -> None:
        self._enqueue(lambda now: self._work.recall(group, now))

    def request_unblocks(self, group: str, pid: str, after: int) -> None:
        self._enqueue(lambda _: self._unblocks(group, pid, after))

    def request_pushes(self, after: int) -> None:
        self.request_unblocks("", "", after)

    def delivered(self, key: UnblockKey) -> None:
        """The store forgets it with a later commit: that needs none of its own, and sending it twice does no harm."""
        self._delivered.append(key)

    def unclaimed(self, pid: str, executes: list[Execute]) -> None:
        """They are set aside."""
        self._enqueue(lambda now: self._work.set_aside(pid, executes, now))

    def forget_stale_unblocks(self, kept_seconds: int) -> None:
        """Forget ``unblock`` messages that nobody has come for in ``kept_seconds``."""
        self._enqueue(lambda now: self._drop_unblocks_before(now - kept_seconds * 1_000))

    def worker_gone(self, pid: str) -> None:
        """Its leases are given to others."""
        self._enqueue(lambda now: self._work.take_back(pid, now))

    # --- the queue --------------------------------------------------------------------------------------------------

    def _enqueue(self, work: Piece) -> None:
        self._put(Job(work=work, retry=True))

    def _submit(self, work: Piece, pace: Pace) -> asyncio.Future[Answer]:
        done: asyncio.Future[Answer] = self._loop.create_future()
        self._put(Job(work=work, done=done, pace=pace))
        return done

    def _put(self, job: Job) -> None:
        queue = self._patient if job.pace is Pace.PATIENT else self._jobs
        queue.append(job)
        self._awake.set()

    async def _run(self) -> None:
        while self._jobs or self._patient or not self._stopping:
            await self._wait_for_jobs_or_alarm()
            await self._work_off(self._next_batch() or [Job(work=self._probe)])
            if self._patient:
                await self._work_off([self._patient.popleft()])
            if self._clock() >= self._alarm:
                await self._work_off([Job(work=self._tick)])

    async def _wait_for_jobs_or_alarm(self) -> None:
        if self._jobs or self._patient or self._stopping:
            await asyncio.sleep(0)  # What was only read has waited for nothing.
            return
        self._awake.clear()
        alarm = self._loop.call_later(self._seconds_to_alarm(), self._awake.set)
        await self._awake.wait()
        alarm.cancel()

    def _seconds_to_alarm(self) -> float:
        return min(max(self._alarm - self._clock(), 0), SWEEP_MS) / 1_000

    def _next_batch(self) -> list[Job]:
        """What has queued up, in order, as far as it is quick; else the next job."""
        batch: list[Job] = []
        while self._jobs and len(batch) < MAX_BATCH and self._jobs[0].pace is Pace.QUICK:
            batch.append(self._jobs.popleft())
        if self._jobs and not batch:
            batch.append(self._jobs.popleft())
        return batch

    # --- a batch ----------------------------------------------------------------------------------------------------

    async def _work_off(self, batch: list[Job]) -> None:
        if not batch:
            return
        try:
            results = await self._transact(batch)
        except Exception as error:
            results = self._fail(batch, error)
        else:
            self._set_alarm()
        try:
            self._publish(batch, results)
        except Exception:
            logger.exception("what was decided could not be told")

    def _fail(self, batch: list[Job], error: Exception) -> list[Result]:
        self._health.failed(error)
        self._alarm = self._clock() + PAUSE_AFTER_FAILURE_MS
        if isinstance(error, StoreLost) and not self.lost.done():
            self.lost.set_result(str(error))
        self._roll_back()
        refusal = f"the server cannot store anything now, and nothing was changed: {self._health.trouble}"
        return [_failure(503, refusal) for _ in batch]

    async def _transact(self, batch: list[Job]) -> list[Result]:
        began = time.perf_counter()
        self._work.outgoing.begin()
        now = self._clock()
        if batch[0].pace is Pace.QUICK:
            results, written = self._decide(batch, now)
        else:
            results, written = await self._on_thread(lambda: self._decide_alone(batch[0], now))
        if written:
            self._health.commits()
            await self._on_thread(self._store.commit)
            self._health.worked()
            self._metrics.commit(len(batch), time.perf_counter() - began)
        return results

    def _decide(self, batch: list[Job], now: int) -> tuple[list[Result], bool]:
        """A result for each job; and whether there is something to commit.

        Those for which there is no time are taken out of ``batch``: they are the next.
        """
        end = time.perf_counter() + MAX_DECIDING_S
        results: list[Result] = []
        while len(results) < len(batch):
            results.append(self._guarded(batch[len(results)], now))
            if time.perf_counter() > end:
                self._jobs.extendleft(reversed(batch[len(results) :]))
                del batch[len(results) :]
        return self._close_decision(results)

    def _decide_alone(self, job: Job, now: int) -> tuple[list[Result], bool]:
        """It may write in several steps, so if one of them fails, its transaction does."""
        return self._close_decision([job.work(now)])

    def _close_decision(self, results: list[Result]) -> tuple[list[Result], bool]:
        written = self._store.flush()
        if written:
            self._forget_delivered(MAX_FORGOTTEN)
            self._keep_mark()
            self._store.flush()
        if self._work.paused:
            results = [
                replace(result, effects=[each for each in result.effects if each is reset]) for result in results
            ]
        return results, written

    def _keep_mark(self) -> None:
        """Not with every commit: it would write one more page each time."""
        now = self._clock()
        if now >= self._marked + MARK_MS:
            self._store.put_clock_mark(self._clock.mark())
            self._marked = now

    def _on_thread[T](self, work: Callable[[], T]) -> Awaitable[T]:
        return self._thread.run(work)

    def _roll_back(self) -> None:
        """Even that may fail; the next transaction will then, too."""
        try:
            self._store.rollback()
        except Exception as error:
            self._health.failed(error)

    def _set_alarm(self) -> None:
        """What is committed stays so, and is told, also if the store does not answer this."""
        try:
            due = None if self._work.paused else self._store.next_due()
        except Exception:
            logger.exception("the store does not tell what is due next")
            due = self._clock() + PAUSE_AFTER_FAILURE_MS
        self._alarm = NEVER if due is None else due

    def _guarded(self, job: Job, now: int) -> Result:
        """Short jobs write once, as their last step: if they fail, nothing has changed."""
        try:
            return job.work(now)
        except StoreFailed:
            raise
        except Exception:
            logger.exception("a piece of work failed and changed nothing")
            return _failure(500, "the server failed at this request, and nothing was changed")

    def _tick(self, now: int) -> Result:
        return self._work.tick(now) or Result()

    def _forget_delivered(self, limit: int) -> None:
        for _ in range(min(limit, len(self._delivered))):
            self._store.drop_unblock(*self._delivered.popleft())

    def _unblocks(self, group: str, pid: str, after: int) -> Result:
        """Without those that were delivered."""
        self._forget_delivered(len(self._delivered))
        return self._work.unblocks(group, pid, after)

    def _drop_unblocks_before(self, time: int) -> Result:
        self._store.drop_unblocks_before(time)
        return Result()

    def _drop_settled_trees(self, now: int) -> Result:
        return self._work.drop_settled_trees(now - self._settings.keep_settled_ms)

    def _probe(self, _: int) -> Result:
        """Only a write tells that it works again."""
        self._store.check()
        if self._health.trouble:
            self._store.try_to_write()
        return Result(answer=Answer(status=200, data=None))

    # --- after the commit -------------------------------------------------------------------------------------------

    def _publish(self, batch: list[Job], results: list[Result]) -> None:
        for job, result in zip(batch, results, strict=True):
            if result.held_back:
                self._hold_back(job)
            elif result.rest is not None:
                self._go_on_later(job, result.rest)
            elif result.answer is not None and _tell(job, result.answer):
                self._work.outgoing.leaves(result.answer.weight)
            if job.retry and result.failed:
                self._loop.call_later(PAUSE_AFTER_FAILURE_MS / 1_000, self._put, job)
        self._work.outgoing.begin()
        self._resume_one_held_back()
        for result in results:
            self._metrics.tasks_changed(result.tasks)
            for decided in result.decided:
                self.observer.decided(decided)
            for notice in result.notices:
                self._take_notice(notice)
            for effect in result.effects:
                effect(self._outbound)
            if reset in result.effects:
                self._delivered.clear()  # What comes after it may have the same names.

    def _go_on_later(self, job: Job, rest: Piece) -> None:
        """Unless nobody waits for it any more, or the server stops: that does not wait for a long search."""
        if job.done is not None and job.done.done():
            return
        if not self._stopping:
            self._put(Job(work=rest, done=job.done, pace=Pace.PATIENT, retry=job.retry))
        else:
            _tell(job, _stops())

    def _hold_back(self, job: Job) -> None:
        if len(self._held_back) < MAX_HELD_BACK:
            self._held_back.append(job)
        else:
            _tell(job, Answer(status=503, data="too many large answers are under way; try again later"))

    def _resume_one_held_back(self) -> None:
        """One at a time: each may take all the room there is."""
        if self._held_back and not self._work.outgoing.is_full:
            self._put(self._held_back.popleft())

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
            case HandedOutInVain(task=task, function=function):
                trouble = task.report().trouble
                logger.warning("task %s for %s, function %s: %s", task.id, task.target, function or "unknown", trouble)
            case RunsSkipped(schedule_id=schedule_id, since=since, until=until):
                logger.warning(
                    "schedule %s: the runs missed from %s until before %s are skipped",
                    schedule_id,
                    _utc(since),
                    _utc(until),
                )


def _pace(request: Request) -> Pace:
    match request:
        case TaskHeartbeat(tasks=named) | TaskSuspend(actions=named) if len(named) > MAX_QUICK:
            return Pace.PATIENT
    return Pace.PATIENT if isinstance(request, LONG) else Pace.QUICK


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()


def _tell(job: Job, answer: Answer) -> bool:
    """Whether somebody waits for it."""
    if job.done is None or job.done.done():
        return False
    job.done.set_result(answer)
    return True


def _stops() -> Answer:
    return Answer(status=503, data="the server stops; this was not done to its end")


def _failure(status: int, message: str) -> Result:
    return Result(answer=Answer(status=status, data=message), failed=True)
