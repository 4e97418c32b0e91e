"""Group commit: jobs that queue up during one commit are decided together and share the next.

One process owns the file, so rows are cached, and decisions are quick and made on the event loop. The loop never waits
for the disk: the kernel syncs what a batch has written, or a thread does, and requests are read meanwhile. The thread
also runs whatever may take long. Only one batch is in flight, so loop and thread never use the database at once.

Invariants: an answer is given, and the listener called, only after the commit; a question that fails changes nothing; a
failed commit undoes and fails the whole batch, and the listener hears nothing of it.
"""

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.kernel.model import Footprint, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import UnblockKey
from resonate_server.protocol.records import TaskState
from resonate_server.store import Decided, DecisionListener, DiskUse, Store
from resonate_server.store.alarm import NEVER, Alarm, first_due
from resonate_server.store.errors import STOPS, ReadFailed, StoreFailed, StoreLost
from resonate_server.store.found import FIRST, SettledRoot
from resonate_server.store.health import StoreHealth
from resonate_server.store.outgoing import LARGE_BYTES, Outgoing, weighed
from resonate_server.store.sqlite.clock import MARK_MS, Clock, ServerClock
from resonate_server.store.sqlite.database import Database
from resonate_server.store.sqlite.log import KernelSync, kernel_sync
from resonate_server.store.view import View

logger = logging.getLogger(__name__)

MAX_BATCH = 256
"""Questions that share one commit. More would make the first of them wait for the last."""

MAX_DECIDING_S = 0.01
"""After this time a batch takes no more questions: the event loop has other work, too."""

MAX_QUICK = 20
"""Footprints with more ids are not decided on the event loop."""

MAX_TREES = 50
"""Trees that one transaction checks for deletion."""

SWEEP_S = 1
"""Interval at which an idle database is checked."""

PAUSE_AFTER_FAILURE_MS = 1_000
"""Pause before a failed database is asked for due work again."""

PATIENCE_S = 10
"""A disk that takes longer hangs. Only seconds count in which this process ran."""

CLOSE_S = 5
"""Time for the disk to end the work under way, and to close the file. Counted like `PATIENCE_S`."""

NOTHING, UNKNOWN = "nothing was changed", "whether this was done will show when it is back"
"""What became of a request that is refused."""

HELD_BACK = object()
"""The outcome of a question that was put off because too many large answers are in flight."""

type Outcome = Any
"""Outcome of a job: its result or decision, :data:`HELD_BACK`, or :class:`ReadFailed`."""


class Job(Struct, eq=False, gc=False):
    """``done`` gets the outcome once that is durable; ``None`` if nobody waits for it. ``work`` is given the time (ms).

    ``is_own``: the server itself waits for it, however long it takes. ``is_quick``: done on the event loop, in a
    transaction with others; else on the thread, in one of its own. ``is_timely``: it does what is due.
    """

    done: asyncio.Future[Any] | None
    work: Callable[[int], Outcome]
    is_own: bool = False
    is_quick: bool = False
    is_timely: bool = False


class Question(Job):
    """Answered by a rule."""


class SQLiteStore(Store):
    """``clock``: by default the server's own, which continues from the mark in ``database``."""

    lost: asyncio.Future[str]
    sharing = None

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self.database = database
        self.outgoing = Outgoing()
        self._clock = clock or ServerClock(database.clock_mark(), latest=database.latest_row)
        self._thread: ThreadPoolExecutor
        self._jobs: deque[Job] = deque()
        self._timely: deque[Job] = deque()
        self._patient: deque[Job] = deque()
        """One job from each of these two runs between batches of ``_jobs``."""
        self._stopping = self._ended = False
        self._health = StoreHealth()
        self._marked = 0
        """When the last clock mark was written (ms)."""
        self._alarm = Alarm(self._clock)
        self.due_at = 0
        """The alarm as it was before the current batch, or else the last one."""
        self._kernel: KernelSync | None = None
        """``None``: there is nothing to sync, or the thread does it."""
        self._listener: DecisionListener
        self._loop: asyncio.AbstractEventLoop
        self._batch: list[Job] = []
        """What is under way."""
        self._hangs = False
        """The disk does not answer; until it does, everything is refused."""
        self._is_busy = False
        """Jobs are under way: ``_running`` does them."""
        self._running: asyncio.Task[None]
        self._watching: asyncio.Task[None]

    def start(self, listener: DecisionListener) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self._listener = listener
        self._thread = ThreadPoolExecutor(1, "store")
        self._kernel = kernel_sync(self.database.log_to_sync)
        self._watching = self._loop.create_task(self._watch())

    @asynccontextmanager
    async def beginning(self) -> AsyncIterator[bool]:
        yield True

    async def close(self) -> None:
        """Where the disk hangs, nothing else would end the process: its threads, and SQLite, would wait for ever."""
        self._stopping = True
        ending = self._loop.create_task(self._end())
        for _ in range(CLOSE_S):
            await asyncio.wait([ending], timeout=1)  # at once if it has ended
        if not ending.done():
            logger.error("the disk has not answered for %d s: ending as after a crash, which loses nothing", CLOSE_S)
            os._exit(2)
        ending.result()

    async def _end(self) -> None:
        while self._is_busy:
            await self._running
        self._ended = True
        self._watching.cancel()
        self.outgoing.stop()
        await asyncio.sleep(0)  # Let those who waited for room hear of it.
        if self._kernel is not None:
            self._kernel.close()
        await self._on_thread(self.database.close)
        self._thread.shutdown()

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        many = len(footprint.ids) > MAX_QUICK
        queue = self._patient if many else self._timely if footprint.due else self._jobs
        work, done = partial(self._answer, footprint, rule), self._loop.create_future()
        job = Question(done, work, rule.request is None, queue is self._jobs, is_timely=footprint.due > 0)
        return self._put(queue, job)

    def read[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        return self._put(self._jobs, Job(self._loop.create_future(), lambda _: query(self.database), is_own=True))

    def browse[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        return self._patiently(lambda: query(self.database))

    def delivered(self, key: UnblockKey) -> None:
        self.database.delivered(key)

    async def drop_unblocks_before(self, time: int) -> None:
        await self._patiently(lambda: self.database.drop_unblocks_before(time))

    async def drop_settled_trees(self, before: int) -> AsyncIterator[int]:
        last: SettledRoot | None = FIRST
        while last is not None:
            dropped = await self._patiently(partial(self.database.drop_settled_trees, before, MAX_TREES, last))
            yield dropped.tasks
            last = dropped.last
        while await self._patiently(self.database.give_back):
            pass

    async def reset(self) -> Counter[TaskState]:
        return await self._patiently(self.database.reset)

    def now(self) -> int:
        return self._clock()

    async def identity(self) -> str:
        return f"SQLite in process {os.getpid()}"

    async def trouble(self) -> str:
        try:
            await self._put(self._jobs, Job(self._loop.create_future(), self._probe))
        except ReadFailed:
            return self._health.trouble
        return ""

    def disk_use(self) -> DiskUse | None:
        return self.database.disk_use()

    async def backup(self) -> Path | None:
        abandoned = threading.Event()
        try:
            return await asyncio.to_thread(self.database.backup, abandoned.is_set)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    # --- the queues -------------------------------------------------------------------------------------------------

    def _patiently[T](self, work: Callable[[], T]) -> asyncio.Future[T]:
        return self._put(self._patient, Job(self._loop.create_future(), lambda _: work()))

    def _put(self, queue: deque[Job], job: Job) -> asyncio.Future[Any]:
        """A stopping server refuses patient and timely jobs; one whose queues have run empty, all."""
        if self._hangs and not job.is_own:
            _tell(job, self._refusal(NOTHING))
        elif self._ended or (self._stopping and queue is not self._jobs):
            _tell(job, ReadFailed(STOPS))
        else:
            queue.append(job)
            self._run_jobs()
        assert job.done is not None
        return job.done

    def _run_jobs(self) -> None:
        """Begin at once, in the caller's turn of the loop, unless jobs are under way."""
        if not self._is_busy:
            self._is_busy = True  # Before the task, which runs until it first waits.
            self._running = asyncio.Task(self._run(), loop=self._loop, eager_start=True)

    async def _run(self) -> None:
        while self._jobs or self._patient or self._timely:
            if batch := self._next_batch():
                await self._work_off(batch)
            for queue in (self._patient, self._timely):
                if queue:
                    await self._work_off([queue.popleft()])
            if self._jobs:
                await asyncio.sleep(0)  # A batch that only read has not yielded to the loop.
        self._is_busy = False

    async def _watch(self) -> None:
        """Check an idle database, and refuse what waits for a disk that hangs."""
        batch, seconds = self._batch, 0
        while True:
            await asyncio.sleep(SWEEP_S)
            seconds = seconds + SWEEP_S if batch and self._batch is batch else 0
            batch = self._batch
            if seconds == PATIENCE_S:
                what = "the disk" if self._health.is_committing else "a query, or the disk that it reads,"
                self._health.failed(StoreFailed(f"{what} has not answered for {PATIENCE_S} s"))
                self._refuse_all()
            if not batch:
                self._jobs.append(Job(None, self._probe))
                self._run_jobs()

    def _refuse_all(self) -> None:
        """The server's own work keeps waiting: nobody else would ask for it again."""
        self._hangs = True
        for job in self._batch:
            if not job.is_own:
                _tell(job, self._refusal(UNKNOWN))
        for queue in (self._jobs, self._timely, self._patient):
            for _ in range(len(queue)):
                job = queue.popleft()
                if job.is_own:
                    queue.append(job)
                else:
                    _tell(job, self._refusal(NOTHING))

    def _next_batch(self) -> list[Job]:
        """Take quick jobs from the head of the queue, in order; if there are none, the next job."""
        batch: list[Job] = []
        while self._jobs and len(batch) < MAX_BATCH and self._jobs[0].is_quick:
            batch.append(self._jobs.popleft())
        if self._jobs and not batch:
            batch.append(self._jobs.popleft())
        return batch

    # --- a batch ----------------------------------------------------------------------------------------------------

    async def _work_off(self, batch: list[Job]) -> None:
        if not isinstance(batch[0], Question) and batch[0].done is not None and batch[0].done.done():
            return  # Nobody waits for it any more.
        self._batch = batch
        try:
            outcomes = await self._transact(batch)
        except Exception as error:
            outcomes = self._fail(batch, error)
        else:
            self._set_alarm(batch, outcomes)
        try:
            self._publish(batch, outcomes)
        except Exception:
            logger.exception("could not report a decision")
        if self.database.is_log_full():
            await self._on_thread(self.database.fold_log)
        self._batch, self._hangs = [], False

    def _fail(self, batch: list[Job], error: Exception) -> list[Outcome]:
        self._health.failed(StoreFailed(str(error)) if isinstance(error, sqlite3.Error) else error)
        self._alarm.set(self._clock() + PAUSE_AFTER_FAILURE_MS)
        self._marked = 0  # The last mark may be among what is undone.
        became_of_it = NOTHING
        if isinstance(error, StoreLost):
            became_of_it = UNKNOWN  # It may be in the log already.
            if not self.lost.done():
                self.lost.set_result(str(error))
        self._roll_back()
        return [self._refusal(became_of_it) for _ in batch]

    def _refusal(self, became_of_it: str) -> ReadFailed:
        return ReadFailed(f"the server cannot store anything at present; {became_of_it}: {self._health.trouble}")

    async def _transact(self, batch: list[Job]) -> list[Outcome]:
        began = time.perf_counter()
        self.outgoing.begin()
        now, self.due_at = self._clock(), self._alarm.at
        work = partial(self._decide, batch, now)
        outcomes, written = work() if batch[0].is_quick else await self._on_thread(work)
        if written:
            self._health.commits()
            await self._commit()
            self._health.worked()
            self._listener.committed(len(batch), time.perf_counter() - began)
        return outcomes

    async def _commit(self) -> None:
        """Leave to the thread a large transaction, which takes long to write, and a sync that the kernel cannot do."""
        has_to_sync = self.database.log_to_sync is not None
        if self.database.is_large or (has_to_sync and self._kernel is None):
            await self._on_thread(self.database.commit)
            return
        self.database.append()
        try:
            if self._kernel is not None:
                await self._kernel.sync()
        except OSError as error:
            raise self.database.not_kept(error) from error
        self.database.synced()

    def _decide(self, batch: list[Job], now: int) -> tuple[list[Outcome], bool]:
        """Return an outcome for each job, and whether there is something to commit.

        Jobs for which there is no time go from ``batch`` back to the head of the queue.
        """
        end = time.perf_counter() + MAX_DECIDING_S
        outcomes: list[Outcome] = []
        for job in batch:
            outcomes.append(self._guarded(job, now) if isinstance(job, Question) else job.work(now))
            if time.perf_counter() > end:
                break
        self._jobs.extendleft(reversed(batch[len(outcomes) :]))
        del batch[len(outcomes) :]
        return outcomes, self._flush()

    def _guarded(self, job: Job, now: int) -> Outcome:
        """A rule that fails has changed nothing, because its changes are written in one last step. Nor has one whose
        rows cannot be read; if SQLite undoes the transaction for that, the commit fails. An errand is not guarded: it
        may write in several steps, so an error fails its whole transaction.
        """
        try:
            return job.work(now)
        except StoreFailed:
            raise
        except sqlite3.Error as error:
            logger.error("the database cannot be read: %s", error)
            return ReadFailed(f"the database cannot be read; nothing was changed: {error}")
        except Exception:
            logger.exception("a piece of work failed and changed nothing")
            return Answer(status=500, data="the server failed to handle this request; nothing was changed")

    def _answer(self, footprint: Footprint, rule: Rule, now: int) -> Outcome:
        if self.outgoing.is_full:
            if self.database.weigh(footprint.shown) > LARGE_BYTES:
                return HELD_BACK
            footprint = replace(footprint, preload_for=None)  # The preload may always be left out (section 3.4).
        decided = self.database.decide(footprint, rule, now)
        answer = decided.decision.answer = weighed(decided.decision.answer)
        if answer.weight:
            self.outgoing.decided(answer)
        return decided

    def _flush(self) -> bool:
        """Not every commit includes the clock mark, which would write one more page each time."""
        written = self.database.flush()
        now = self._clock()
        if written and now >= self._marked + MARK_MS:
            self.database.put_clock_mark(self._clock.mark())
            self.database.flush()
            self._marked = now
        return written

    def _on_thread[T](self, work: Callable[[], T]) -> Awaitable[T]:
        """The future must not be cancelled."""
        return self._loop.run_in_executor(self._thread, work)

    def _roll_back(self) -> None:
        """This may fail, too; then so will the next transaction."""
        try:
            self.database.rollback()
        except Exception as error:
            self._health.failed(error)

    def _set_alarm(self, batch: list[Job], outcomes: list[Outcome]) -> None:
        """The batch is committed and must be published, even if the database does not say what is due next."""
        for job, outcome in zip(batch, outcomes, strict=True):
            if job.is_timely:
                self._alarm.set(self._next_due())
            elif isinstance(outcome, Decided):
                self._alarm.set_if_earlier(first_due(outcome.decision.changes))

    def _next_due(self) -> int:
        try:
            due = self.database.next_due()
        except Exception:
            logger.exception("the store cannot say what is due next")
            return self._clock() + PAUSE_AFTER_FAILURE_MS
        return NEVER if due is None else due

    def _probe(self, _: int) -> None:
        """Only a write shows that a failed store works again."""
        self.database.check()
        if self._health.trouble:
            self.database.try_to_write()

    # --- after the commit -------------------------------------------------------------------------------------------

    def _publish(self, batch: list[Job], outcomes: list[Outcome]) -> None:
        for job, outcome in zip(batch, outcomes, strict=True):
            if outcome is HELD_BACK:
                self._hold_back(job)
            elif _tell(job, outcome) and isinstance(outcome, Decided) and outcome.decision.answer.weight:
                self.outgoing.leaves(outcome.decision.answer)
        self.outgoing.begin()
        self.outgoing.resume_one()
        for outcome in outcomes:
            if isinstance(outcome, Decided):
                self._listener.decided(outcome)

    def _hold_back(self, job: Job) -> None:
        room = self.outgoing.wait()
        room.add_done_callback(lambda _: self._resume(job, room.exception()))

    def _resume(self, job: Job, error: BaseException | None) -> None:
        if error is None:
            self._put(self._jobs, job)
        else:
            _tell(job, error)


def _tell(job: Job, outcome: Outcome) -> bool:
    """Set the outcome; return whether somebody waits for it."""
    if job.done is None or job.done.done():
        return False
    match outcome:
        case Decided():
            job.done.set_result(outcome.decision.answer)
        case ReadFailed() if isinstance(job, Question):
            job.done.set_result(Answer(status=503, data=str(outcome)))
        case ReadFailed():
            job.done.set_exception(outcome)
        case _:
            job.done.set_result(outcome)
    return True
