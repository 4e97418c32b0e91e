"""Group commit: questions that queue up during one transaction share the next.

This server has one transaction in flight at a time, on one connection; other servers have theirs. One round trip locks
and reads its rows. Then the rules are asked one after the other, each seeing what those before it have changed. A
second round trip writes and commits what they decide. Nobody waits for a lock: a question whose row another server has
is retried.

Invariants: an answer is given, and the listener called, only after the commit, in commit order; a question that fails
changes nothing. Neither does a transaction that fails; each of its questions is asked again by itself, as long as
somebody waits for it, so that none can fail another.

Work that must see everything decided so far, and nothing announced later, runs between two transactions: reading while
this server is the only one. With others, what is read may be a moment old; they announce what they decide meanwhile.
Deleting may take long, so it has a connection of its own.
"""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import psycopg
from msgspec.structs import replace
from psycopg import errors

from resonate_server.kernel.model import Footprint, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import UnblockKey
from resonate_server.protocol.records import TaskState
from resonate_server.store import Decided, DecisionListener, DiskUse, Store
from resonate_server.store.alarm import NEVER, Alarm, first_due
from resonate_server.store.errors import STOPS, ReadFailed, StoreFailed
from resonate_server.store.found import FIRST, SettledRoot
from resonate_server.store.health import StoreHealth
from resonate_server.store.in_flight import InFlightTasks
from resonate_server.store.outgoing import LARGE_BYTES, Outgoing, weighed
from resonate_server.store.postgres import plans, sql
from resonate_server.store.postgres.driver import OPTIONS, SERVING_OPTIONS, ServingConnection, Transaction
from resonate_server.store.postgres.inquiries import Inquiry, InquiryQueue
from resonate_server.store.postgres.membership import Membership, told
from resonate_server.store.postgres.plans import MAX_BYTES, Asked, Asking, Busy, Found, Large, Unit
from resonate_server.store.postgres.postgres_view import Views
from resonate_server.store.postgres.writing import Writing
from resonate_server.store.view import View

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0  # A request or query that is not completed in this time is refused; it may be repeated.
MOST_PATIENT_S = 3_600.0  # for a query that nobody else would repeat: there may be very much to count
STOOD_STILL_S = 1.0  # A timer that is later than this shows that this process was frozen, or its machine asleep.
READY_S = 5.0  # If decisions take longer, this server is not ready.
SLOW = "the database is too slow"

PAUSE_S = 0.05  # before the database is tried again, and at most before a row that another server has
LONGEST_PAUSE_S = 0.1  # between shared transactions
PUT_OFF_S = 60.0  # before something due that cannot be done is tried again
SKIPPED_MS = 100  # before due work that is locked is: another server is doing it, or has died doing it

FORGET_S = 1.0  # Interval at which delivered messages are deleted.
MAX_TREES = 50  # that one transaction checks for deletion
APART_S = 600.0  # Longest silence of the database while it deletes them.

GRACE_S = 1.0  # for work in flight to finish when the server stops
LEAVE_S = 8.0  # to leave the other servers

CONFLICTS = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.UniqueViolation,
    errors.LockNotAvailable,
)
"""Another server was faster: the same question has another answer now."""

OUTDATED = (errors.ReadOnlySqlTransaction, errors.FeatureNotSupported, errors.InvalidSqlStatementName)
"""This connection will not do any more: another database has become the primary, or a table that a prepared statement
reads has other columns."""

FAULTY_ROWS = ("21", "22", "23", "54", "P0", "XX")
"""Classes of errors (appendix A of PostgreSQL's manual) whose cause is what was to be read or written: values,
constraints, limits, triggers, damaged pages. For any other, the database is at fault, or the way to it: it is down,
full, no primary, being restored, or does not grant a right. Sooner or later the same will succeed.
"""


class TooSlow(ReadFailed):
    """The database has not finished in time."""


class DatabaseRefuses(ReadFailed):
    """The database refuses this, and would do so again as long as nothing has changed."""


type Outcome = Decided | Exception
"""Outcome of an inquiry. :class:`Busy` and :class:`Large` put it off; any other exception comes from its rule."""

type Work[T] = Callable[[Asking], Awaitable[T]]
"""Something else to do in a transaction."""


class PostgresStore(Store):
    """``pool_size``: number of connections. One decides, the others run queries; if there are no others, queries take
    turns with decisions."""

    lost: asyncio.Future[str]

    def __init__(self, url: str, pool_size: int) -> None:
        self.outgoing = Outgoing()
        self._is_by_turns = pool_size == 1
        self.sharing = Membership(url, self._lose, lambda time: self._alarm.set_if_earlier(time))
        self._alarm = Alarm(self.sharing.clock)
        self._source = self.sharing.source
        self._connection: ServingConnection | None = None
        self._views = Views(self._source, max(1, pool_size - 1))
        self._line = InquiryQueue()
        self._order = asyncio.Lock()
        """Held during a transaction: one comes after the other."""
        self._health = StoreHealth()
        self._looking = InFlightTasks()
        self._patience_s = PATIENCE_S
        """Time for a :meth:`read`, whose caller would ask again: doubles with each that is too slow, until one is
        not."""
        self._membership: asyncio.Task[None]
        self._duties: list[asyncio.Task[None]]
        self._delivered: deque[UnblockKey] = deque()
        self._unit: Unit
        """The latest one."""
        self._put_off: dict[str, float] = {}
        """Ids of what is due and cannot be done, and until when it is put off (monotonic seconds)."""
        self.due_at = 0
        self._stopping = False
        self._listener: DecisionListener

    def start(self, listener: DecisionListener) -> None:
        loop = asyncio.get_running_loop()
        self.lost = loop.create_future()
        self._listener = listener
        work = (self.sharing.run(), self._run(), self._forget())
        self._membership, *self._duties = [loop.create_task(each) for each in work]

    @asynccontextmanager
    async def beginning(self) -> AsyncIterator[bool]:
        await self.sharing.joined()
        yield self.sharing.is_first
        self.sharing.begun()

    async def close(self) -> None:
        self._stopping = True
        is_at_work = not self.sharing.trouble
        if is_at_work and (under_way := [*(each.done for each in self._line.open), *self._looking]):
            await asyncio.wait(under_way, timeout=GRACE_S)
        self.sharing.stop()
        self.outgoing.stop()
        if is_at_work:
            await asyncio.wait([self._membership], timeout=LEAVE_S)
        ending = (*self._looking, *self._duties, self._membership)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for inquiry in self._line.open:
            inquiry.refuse(STOPS)
        if self._connection is not None:
            await self._connection.close()
        self._views.close()

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)

    # --- the contract -----------------------------------------------------------------------------------------------

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        inquiry = Inquiry(asyncio.get_running_loop().create_future(), footprint, rule)
        if rule.request is not None:  # The server's own work waits: nobody else would ask for it again.
            if self._stopping:
                inquiry.refuse(STOPS)
                return inquiry.done
            self._be_patient(inquiry)
        self._line.put(inquiry)
        return inquiry.done

    def read[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        return self._looking.begin(self._read(query))

    def browse[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        return self._looking.begin(self._browse(query))

    def delivered(self, key: UnblockKey) -> None:
        self._delivered.append(key)

    async def drop_unblocks_before(self, time: int) -> None:
        await self._apart(lambda ask: ask((sql.DROP_UNBLOCKS_BEFORE, (time,))))

    async def drop_settled_trees(self, before: int) -> AsyncIterator[int]:
        last: SettledRoot | None = FIRST
        while last is not None:
            roots, last = await self._apart(partial(plans.settled_roots, before=before, limit=MAX_TREES, after=last))
            yield await self._drop_trees(roots, before)

    async def _drop_trees(self, roots: list[str], before: int) -> int:
        """Delete those that can be deleted, and that nobody else has locked. Return how many tasks there were."""
        if not roots:
            return 0
        try:
            return await self._apart(partial(plans.drop_trees, before=before, roots=roots))
        except DatabaseRefuses as error:
            if len(roots) == 1:
                logger.warning("the settled tree of %s cannot be deleted now: %s", roots[0], error)
                return 0
            half = len(roots) // 2
            return sum([await self._drop_trees(some, before) for some in (roots[:half], roots[half:])])

    async def reset(self) -> Counter[TaskState]:
        self._delivered.clear()  # New promises may have the same ids.
        return await self._in_turn(plans.reset)

    def now(self) -> int:
        return self.sharing.clock()

    async def identity(self) -> str:
        await self.sharing.joined()
        return self._source.identity

    async def trouble(self) -> str:
        if self.sharing.trouble:
            return self.sharing.trouble
        try:
            async with asyncio.timeout(READY_S):
                await self._in_turn(lambda ask: ask())
        except ReadFailed as error:
            return str(error)
        except TimeoutError:
            return SLOW
        return ""

    def disk_use(self) -> DiskUse | None:
        return None

    async def backup(self) -> Path | None:
        raise StoreFailed("the state is in PostgreSQL: use pg_dump, or a base backup")

    # --- the line ---------------------------------------------------------------------------------------------------

    def _be_patient(self, inquiry: Inquiry) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_S
        patience = loop.call_at(end, self._give_up, inquiry, end)
        inquiry.done.add_done_callback(lambda _: patience.cancel())

    def _give_up(self, inquiry: Inquiry, end: float) -> None:
        """Refuse it at ``end``. If this process stood still then, the database may have answered long ago."""
        if asyncio.get_running_loop().time() - end > STOOD_STILL_S:
            self._be_patient(inquiry)
        else:
            trouble = self.sharing.trouble or self._health.trouble or SLOW
            inquiry.refuse(f"this was abandoned and can be tried again: {trouble}")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ReadFailed):  # This server is stopping.
            async for batch in self._line.batches():
                async with self._turn():
                    began = loop.time()
                    await self._work_off([inquiry for inquiry in batch if not inquiry.done.done()])
                if len(batch) > 1 and self.sharing.others:
                    await self._line.gather(pause_after(loop.time() - began, self.sharing.others))

    async def _work_off(self, batch: list[Inquiry]) -> None:
        if not batch:
            return
        try:
            await self._decide(batch)
        except Exception as error:
            await self._recover(batch, error)

    async def _recover(self, batch: list[Inquiry], error: Exception) -> None:
        """Retry or fail the batch, which has changed nothing. Only one that was alone is known to be at fault."""
        if isinstance(error, OUTDATED) and self._connection is not None:
            await self._connection.close()
        if _is_shortage(error):
            self._fail(error)
            await asyncio.sleep(PAUSE_S)
        if len(batch) > 1:
            self._line.put_first(batch)
        else:
            self._failed(batch[0], error)

    def _failed(self, inquiry: Inquiry, error: Exception) -> None:
        """Retry or answer an inquiry that was decided by itself, or failed before anything was written."""
        if isinstance(error, (Busy, *CONFLICTS)) or _is_shortage(error):
            self._come_again(inquiry)
        elif isinstance(error, Large):
            inquiry.is_large = True
            self._line.put(inquiry)
        elif inquiry.footprint.due:
            self._single_out(inquiry, error)
        elif isinstance(error, errors.ProgramLimitExceeded):
            inquiry.give(Answer(status=400, data="an id is longer than PostgreSQL can index"))
        else:
            inquiry.blame(error)

    def _single_out(self, inquiry: Inquiry, error: Exception) -> None:
        """Find out what fails of all that is due, and put it off, so that the rest gets done."""
        if (limit := inquiry.footprint.due) > 1:
            inquiry.footprint = replace(inquiry.footprint, due=limit // 10 or 1)
            self._line.put(inquiry)
        elif (id := self._unit.single) is None:
            inquiry.blame(error)
        else:
            logger.error("what is due of %s cannot be done; trying again in %.0f s", id, PUT_OFF_S, exc_info=error)
            self._put_off[id] = time.monotonic() + PUT_OFF_S
            inquiry.give(Answer(status=200, data=True))

    def _fail(self, error: Exception) -> None:
        self._health.failed(StoreFailed(told(error)))
        self.sharing.doubt()

    def _come_again(self, inquiry: Inquiry) -> None:
        """Retry it soon: another server has its rows, usually for some milliseconds."""
        inquiry.tries += 1
        pause = random.random() * min(PAUSE_S, 0.001 * 2 ** min(inquiry.tries, 10))
        asyncio.get_running_loop().call_later(pause, self._line.put, inquiry)

    def _hold_back(self, inquiry: Inquiry) -> None:
        def resume(room: asyncio.Future[None]) -> None:
            if (error := room.exception()) is None:
                self._line.put(inquiry)
            else:
                inquiry.refuse(str(error))

        self.outgoing.wait().add_done_callback(resume)

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def _decide(self, batch: list[Inquiry]) -> None:
        """Decide the whole batch in one transaction."""
        if batch[0].is_large and self.outgoing.is_full:
            self._hold_back(batch[0])
            return
        due_at = self._alarm.at
        async with self._transaction() as transaction:
            outcomes = await self._transact(transaction, batch)
            self.due_at = due_at
            self._publish(batch, outcomes)

    async def _transact(self, transaction: Transaction, batch: list[Inquiry]) -> list[Outcome]:
        self.outgoing.begin()
        began, now = time.perf_counter(), time.monotonic()
        self._put_off = {id: until for id, until in self._put_off.items() if until > now}
        most = MAX_BYTES if batch[0].is_large else LARGE_BYTES
        self._unit = unit = Unit(transaction.ask, most, [*self._put_off])
        await unit.fetch([self._affordable(inquiry) for inquiry in batch])
        outcomes = [await self._ask(unit, inquiry) for inquiry in batch]
        decided = [outcome for outcome in outcomes if isinstance(outcome, Decided)]
        await self._keep(transaction, unit.writing, asks_for_time=batch[0].footprint.due > 0)
        if unit.writing:
            self._listener.committed(len(decided), time.perf_counter() - began)
        for each in decided:
            self._alarm.set_if_earlier(first_due(each.decision.changes))
        return outcomes

    def _affordable(self, inquiry: Inquiry) -> Footprint:
        """Leave out the preload, which is always allowed (section 3.4), if there is no room for it."""
        return replace(inquiry.footprint, preload_for=None) if self.outgoing.is_full else inquiry.footprint

    async def _ask(self, unit: Unit, inquiry: Inquiry) -> Outcome:
        try:
            decided = await unit.decide(self._affordable(inquiry), inquiry.rule, self.sharing.clock)
            answer = decided.decision.answer = weighed(decided.decision.answer)
        except (psycopg.Error, OSError):
            raise
        except Exception as error:
            return error
        unit.keep(decided)
        self.outgoing.decided(answer)
        return decided

    async def _keep(self, transaction: Transaction, writing: Writing, *, asks_for_time: bool) -> None:
        """Commit what was written. A transaction that changes nothing ends without a commit."""
        asked = [(sql.NEXT_DUE, {"put_off": [*self._put_off]})] if asks_for_time else []
        if writing:
            found = await self._commit(transaction, writing, *asked)
        else:
            found = await transaction.ask(*asked) if asked else []
        for [(next_due,)] in found:
            others_have_it = 0 if writing else self.sharing.clock() + SKIPPED_MS
            self._alarm.set(NEVER if next_due is None else max(next_due, others_have_it))

    async def _commit(self, transaction: Transaction, writing: Writing, *asked: Asked) -> Found:
        """An error that the database reports on an open connection means that nothing was committed."""
        self._health.commits()
        try:
            found = await transaction.commit(writing, *asked)
        except (psycopg.Error, OSError) as error:
            if _is_shortage(error):
                self._fail(error)
            else:
                self._health.worked()
            if not transaction.is_lost or not await self._was_committed(transaction):
                raise
            found = [[(0,)]]
        self._health.worked()
        return found

    async def _was_committed(self, transaction: Transaction) -> bool:
        """Ask the database, however long that takes, before anything is published. The answer is final: what was sent
        but not done by then is not done at all."""
        while True:
            try:
                async with await self._source.connect_async() as another:
                    await another.execute(sql.END_BACKEND.encode(), (transaction.backend, self._source.name))
                    ending = await another.execute(sql.GET_ENDING.encode(), (self.sharing.id,))
                    return await ending.fetchall() == [(transaction.number,)]
            except (psycopg.Error, OSError):
                await asyncio.sleep(PAUSE_S)

    def _publish(self, batch: list[Inquiry], outcomes: list[Outcome]) -> None:
        self.outgoing.begin()
        for inquiry, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Decided):
                self._failed(inquiry, outcome)
            elif inquiry.give(outcome.decision.answer):
                self.outgoing.leaves(outcome.decision.answer)
        self.outgoing.resume_one()
        for outcome in outcomes:
            if isinstance(outcome, Decided):
                self._tell(outcome)

    def _tell(self, decided: Decided) -> None:
        try:
            self._listener.decided(decided)
        except Exception:
            logger.exception("could not report a decision")

    # --- other work -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Enter after the transaction under way; the next one comes after exit. Raises :class:`ReadFailed`."""
        async with self._order:
            await self.sharing.joined()
            yield

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        if self._connection is None or self._connection.closed:
            self._connection = await self._source.connect_async(OPTIONS | SERVING_OPTIONS)
        transaction = Transaction(self._connection, self.sharing.id)
        try:
            yield transaction
        finally:
            await transaction.leave()

    async def _in_turn[T](self, work: Work[T]) -> T:
        """Run ``work`` in a transaction of its own, in turn with decisions. Raises :class:`ReadFailed`."""
        async with self._turn():
            with self._told():
                while True:
                    with suppress(*CONFLICTS):
                        async with self._transaction() as transaction:
                            return await _completed(transaction, work)
                    await asyncio.sleep(PAUSE_S)

    async def _apart[T](self, work: Work[T]) -> T:
        """Run ``work``, which may take long, on a connection of its own. Raises :class:`ReadFailed`."""
        if self._is_by_turns:
            return await self._in_turn(work)
        await self.sharing.joined()
        with self._told():
            async with await self._source.connect_async(OPTIONS | SERVING_OPTIONS) as connection:
                connection.patience_s = APART_S
                return await _completed(Transaction(connection, self.sharing.id), work)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise errors of the database as :class:`ReadFailed`."""
        try:
            yield
        except (psycopg.Error, OSError) as error:
            if not _is_shortage(error):
                raise DatabaseRefuses(told(error)) from error
            self._fail(error)
            raise ReadFailed(told(error)) from error

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_S)
            with suppress(ReadFailed):
                await self._forget_delivered()

    async def _forget_delivered(self) -> None:
        keys = list(self._delivered)
        if not keys:
            return
        self._delivered.clear()
        try:
            await self._in_turn(lambda ask: ask((sql.DROP_UNBLOCKS, [*map(list, zip(*keys, strict=True))])))
        except BaseException:
            self._delivered.extendleft(keys)
            raise

    # --- queries ----------------------------------------------------------------------------------------------------

    async def _read[T](self, query: Callable[[View], T]) -> T:
        """With other servers, do not wait for this one's decisions, because theirs cannot be waited for either."""
        await self._forget_delivered()
        async with self._turn():
            if not self.sharing.has_others:
                return await self._look_patiently(query)
        return await self._look_patiently(query)

    async def _look_patiently[T](self, query: Callable[[View], T]) -> T:
        seconds = self._patience_s
        try:
            result = await self._look(query, seconds)
        except TooSlow:
            self._patience_s = max(self._patience_s, min(2 * seconds, MOST_PATIENT_S))
            raise
        self._patience_s = PATIENCE_S
        return result

    async def _browse[T](self, query: Callable[[View], T]) -> T:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.sharing.joined()
                async with self._turn() if self._is_by_turns else nullcontext():
                    return await self._look(query, PATIENCE_S)
        except TimeoutError:
            raise TooSlow(self.sharing.trouble or SLOW) from None

    async def _look[T](self, query: Callable[[View], T], seconds: float) -> T:
        """Run ``query`` on a thread, for ``seconds`` at most, whether or not the database answers."""
        until = time.monotonic() + seconds
        with self._told():
            try:
                return await self._views.look(query, until)
            except (psycopg.Error, OSError) as error:
                if time.monotonic() >= until:
                    raise TooSlow(SLOW) from error
                raise
            except Exception as error:
                logger.exception("what was read makes no sense")
                raise ReadFailed(f"what the database has cannot be read: {error}") from error


def _is_shortage(error: Exception) -> bool:
    if not isinstance(error, psycopg.Error) or isinstance(error, CONFLICTS):
        return isinstance(error, OSError)
    return error.sqlstate is None or not error.sqlstate.startswith(FAULTY_ROWS)


async def _completed[T](transaction: Transaction, work: Work[T]) -> T:
    result = await work(transaction.ask)
    await transaction.ask((sql.COMMIT, ()))
    return result


def pause_after(seconds: float, others: int) -> float:
    """Return how long to pause after a shared transaction that took ``seconds``: as long for each other server. So
    there are few large transactions instead of many small ones, as if one server decided everything."""
    return min(seconds * others, LONGEST_PAUSE_S)
