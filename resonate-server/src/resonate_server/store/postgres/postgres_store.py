"""Each question is a transaction of its own, on one of several connections; questions on different rows go together.

Invariants: an answer is given, and the listener told, only after the commit; a question that fails changes nothing,
and is asked again as long as somebody waits for it; of those on the same rows, what was committed first is told first.

What must see all that was decided so far, and nothing that is told later, is done alone: deleting, and reading as long
as this server is the only one. With others, what is read may be a moment old; what they decide meanwhile, they tell.
"""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
from msgspec import Struct
from msgspec.structs import replace
from psycopg import errors
from psycopg_pool import PoolTimeout

from resonate_server.kernel.model import Changes, Footprint, PutSpreading, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import UnblockKey
from resonate_server.protocol.records import PromiseState, TaskState
from resonate_server.store import CommitAge, Decided, DecisionListener, DiskUse, Store, View
from resonate_server.store.errors import STOPS, ReadFailed, StoreFailed
from resonate_server.store.health import StoreHealth
from resonate_server.store.outgoing import LARGE_BYTES, Outgoing, weighed
from resonate_server.store.portions import FIRST, SettledRoot
from resonate_server.store.postgres import plans, sql
from resonate_server.store.postgres.database_clock import DatabaseClock
from resonate_server.store.postgres.driver import async_pool, connect_async, name_of, thread_pool
from resonate_server.store.postgres.membership import Membership, told
from resonate_server.store.postgres.plans import MAX_BYTES, Ask, Large, LockedRows, OutOfOrder, Plan
from resonate_server.store.postgres.transaction import Transaction
from resonate_server.store.postgres.turns import Order, Turns
from resonate_server.store.postgres.view import PostgresView
from resonate_server.store.under_way import UnderWay

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""A request that the database does not let through for so long is refused; it may come again."""

PAUSE_S = 0.05
"""Before a connection is tried again."""

CONNECTION_S = 5.0
"""Longest wait for a connection, before it is asked again whether there is any use."""

GRACE_S = 1.0
"""What is under way when the server stops has so long to come to its end."""

MAX_QUICK = 20
"""Whoever names more ids takes turns with others who do."""

MAX_TREES = 50
"""Trees that one transaction looks at, to delete those that have settled."""

VIEWS = 2
"""Threads for those who look, each with a connection."""

FORGET_S = 1.0
"""Delivered messages are forgotten this often."""

SWEEP_S = 1.0
SKIPPED_MS = 100
"""What is due and could not be had is looked at again so much later: another server is at it, or has died at it."""

NEVER = 2**63

FASTER = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
"""Somebody else was: the same question has another answer now."""

TOO_LONG = errors.ProgramLimitExceeded
"""For an index: nobody could find it again."""

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError)
"""The database, or the way to it."""


class Inquiry(Struct, eq=False):
    """``done`` is told the answer once it is durable. ``due_at``: see :attr:`PostgresStore.due_at`."""

    footprint: Footprint
    rule: Rule
    done: asyncio.Future[Answer]
    due_at: int = 0
    is_large: bool = False
    """The answer is, as far as is known; one of these is decided at a time, if there is room for it."""

    def tell(self, answer: Answer) -> bool:
        """Whether somebody waits for it."""
        if self.done.done():
            return False
        self.done.set_result(answer)
        return True


class Outdated(Exception):
    """What did not exist when it was looked for does by now, and somebody has been told so."""


class HeldBack(Exception):
    """Nothing was done, because too many large answers are under way."""


class PostgresStore(Store):
    """``pool_size``: so many questions are in the database at once. With one, everything is done in its turn."""

    lost: asyncio.Future[str]

    def __init__(self, url: str, pool_size: int) -> None:
        self.outgoing = Outgoing()
        self._url = url
        self._clock = DatabaseClock()
        self._threads = ThreadPoolExecutor(VIEWS, "view")
        self._is_open = asyncio.Event()
        self.sharing = Membership(url, self._clock, self._lose, self._wake_at)
        name = name_of(self.sharing.id)
        self._pool = async_pool(url, pool_size, name)
        self._views = thread_pool(url, VIEWS, name)
        self._turns = Turns()
        self._order = Order()
        self._of_many, self._of_time, self._of_large = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        """One each is under way of what names many ids, of what is due, and of what has a large answer."""
        self._for_views = self._turns.alone if pool_size == 1 else self._turns.together
        self._health = StoreHealth()
        self._under_way = UnderWay()
        self._duties: list[asyncio.Task[None]] = []
        self._delivered: deque[UnblockKey] = deque()
        self._alarm = 0
        """When something is due (ms); nothing is before that."""
        self._is_earlier = asyncio.Event()
        self._due_at = 0
        self._stopping = False
        self._listener: DecisionListener

    def start(self, listener: DecisionListener) -> None:
        loop = asyncio.get_running_loop()
        self.lost = loop.create_future()
        self._listener = listener
        self._views.open()
        self._duties = [loop.create_task(duty) for duty in (self._open(), self._forget())]
        self._duties += [loop.create_task(self.sharing.run()), loop.create_task(self.sharing.listen())]

    async def _open(self) -> None:
        """There is a schema once this server has joined the others."""
        await self.sharing.joined()
        await self._pool.open()
        self._is_open.set()

    @asynccontextmanager
    async def beginning(self) -> AsyncIterator[bool]:
        await self._at_work()
        yield self.sharing.is_first
        self.sharing.begun()

    async def close(self) -> None:
        self._stopping = True
        is_at_work = not self.sharing.trouble
        if self._under_way and is_at_work:
            await asyncio.wait(self._under_way, timeout=GRACE_S)
        self.sharing.stop()
        self.outgoing.stop()
        for task in (*self._under_way, *self._duties):
            task.cancel()
        await asyncio.gather(*self._under_way, *self._duties, return_exceptions=True)
        if is_at_work:
            await self.sharing.leave()
        await self._pool.close(timeout=1)
        self._threads.shutdown()
        self._views.close(timeout=1)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)

    # --- the contract -----------------------------------------------------------------------------------------------

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        inquiry = Inquiry(footprint, rule, loop.create_future())
        if rule.request is None:  # Nobody else would ask for it, so it waits.
            self._under_way.begin(self._answer(inquiry))
        elif refusal := self._refusal():
            inquiry.tell(Answer(status=503, data=refusal))
        else:
            patience = loop.call_later(PATIENCE_S, self._give_up, inquiry)
            inquiry.done.add_done_callback(lambda _: patience.cancel())
            self._under_way.begin(self._answer(inquiry))
        return inquiry.done

    def read[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        return self._under_way.begin(self._read(query))

    def browse[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        return self._under_way.begin(self._browse(query))

    async def until_due(self) -> None:
        while (left := self._alarm - self._clock()) > 0:
            self._is_earlier.clear()
            try:
                async with asyncio.timeout(min(left / 1_000, SWEEP_S)):
                    await self._is_earlier.wait()
            except TimeoutError:
                continue

    @property
    def due_at(self) -> int:
        return self._due_at

    def delivered(self, key: UnblockKey) -> None:
        self._delivered.append(key)

    async def drop_unblocks_before(self, time: int) -> None:
        def plan() -> Plan[None]:
            yield {"drop": Ask(sql.DROP_UNBLOCKS_BEFORE, (time,))}

        if not self._refusal():  # It comes again.
            await self._under_way.begin(self._alone(plan))

    async def drop_settled_trees(self, before: int) -> AsyncIterator[int]:
        last: SettledRoot | None = FIRST
        if refusal := self._refusal():
            raise ReadFailed(refusal)
        while last is not None:
            portion = partial(plans.drop_settled_trees, before, MAX_TREES, last)
            dropped = await self._under_way.begin(self._alone(portion))
            yield dropped.tasks
            last = dropped.last

    async def reset(self) -> Counter[TaskState]:
        self._delivered.clear()  # What comes after it may have the same names.
        return await self._under_way.begin(self._alone(_reset))

    def now(self) -> int:
        return self._clock()

    async def trouble(self) -> str:
        if self.sharing.trouble:
            return self.sharing.trouble
        try:
            await self._is_open.wait()
            async with self._pool.connection(timeout=CONNECTION_S) as connection:
                await connection.execute(sql.CHECK)
        except AWAY as error:
            self._fail(error)
            return told(error)
        return ""

    @property
    def last_commit(self) -> CommitAge | None:
        return self._health.commit

    def disk_use(self) -> DiskUse | None:
        return None

    async def backup(self) -> Path | None:
        raise StoreFailed("the state is in PostgreSQL, which has means of its own: pg_dump, or a base backup")

    # --- questions --------------------------------------------------------------------------------------------------

    def _refusal(self) -> str:
        """Why clients are sent away: this server has not been at work yet, or stops."""
        return STOPS if self._stopping else "" if self.sharing.has_joined else self.sharing.trouble

    def _give_up(self, inquiry: Inquiry) -> None:
        trouble = self.sharing.trouble or self._health.trouble or "the database is too slow"
        inquiry.tell(Answer(status=503, data=f"this was given up, and may be tried again: {trouble}"))

    async def _answer(self, inquiry: Inquiry) -> None:
        try:
            while True:
                try:
                    async with self._turns.together(), self._line(inquiry):
                        return await self._insist(inquiry)
                except Large:
                    inquiry.is_large = True
                except HeldBack:
                    await self.outgoing.wait()
        except ReadFailed as error:
            inquiry.tell(Answer(status=503, data=str(error)))
        except Exception:
            logger.exception("a question failed and changed nothing")
            inquiry.tell(Answer(status=500, data="the server failed at this request, and nothing was changed"))
        finally:
            inquiry.tell(Answer(status=503, data=STOPS))

    @asynccontextmanager
    async def _line(self, inquiry: Inquiry) -> AsyncIterator[None]:
        """Of those who are decided one at a time."""
        if inquiry.is_large or inquiry.footprint.due or len(inquiry.footprint.ids) > MAX_QUICK:
            line = self._of_large if inquiry.is_large else self._of_time if inquiry.footprint.due else self._of_many
            async with line:
                yield
        else:
            yield

    async def _insist(self, inquiry: Inquiry) -> None:
        """Ask again as long as somebody waits for the answer."""
        together: frozenset[str] = frozenset()
        while True:
            await self._at_work()
            if inquiry.done.done():
                return None
            try:
                return await self._attempt(inquiry, together)
            except OutOfOrder as wider:
                together |= wider.ids
            except Outdated:
                continue
            except FASTER as error:
                logger.debug("asked again: %s", error)
                await asyncio.sleep(random.random() * PAUSE_S)
            except TOO_LONG:
                inquiry.tell(Answer(status=400, data="an id is longer than what PostgreSQL can look up"))
            except AWAY as error:
                self._fail(error)
                await asyncio.sleep(PAUSE_S)

    async def _at_work(self) -> None:
        """Raises :class:`ReadFailed` if that will not be any more."""
        await self.sharing.joined()
        await self._is_open.wait()

    def _fail(self, error: Exception) -> None:
        self._health.failed(StoreFailed(told(error)))
        self.sharing.doubt()

    async def _attempt(self, inquiry: Inquiry, together: frozenset[str]) -> None:
        async with self._transaction() as transaction:
            footprint = self._affordable(inquiry)
            inquiry.due_at = self._alarm
            with self._minding_the_alarm(footprint), self._order.watching() as appeared:
                reading = LockedRows(together, MAX_BYTES if inquiry.is_large else LARGE_BYTES)
                decided = await transaction.run(reading.decide(footprint, inquiry.rule, self._clock))
                decided.decision.answer = weighed(decided.decision.answer)
                before = self._order.before(reading.locked)
                with self._order.entered(reading.locked):
                    _check_absent(reading, appeared)
                    is_change = await self._keep(transaction, reading, decided, footprint)
                    if before:
                        await asyncio.wait(before)
                    if not is_change:
                        _check_absent(reading, appeared)
                    self._order.appeared([id for id in decided.decision.changes.promises if not reading.exists(id)])
                    self._publish(inquiry, decided)

    def _affordable(self, inquiry: Inquiry) -> Footprint:
        if not self.outgoing.is_full:
            return inquiry.footprint
        if inquiry.is_large:
            raise HeldBack
        return replace(inquiry.footprint, preload_for=None)  # It may always be left out (section 3.4).

    async def _keep(
        self, transaction: Transaction, reading: LockedRows, decided: Decided, footprint: Footprint
    ) -> bool:
        """Whether it changes something. What does not has nothing to wait for: it ends without a commit."""
        decision = decided.decision
        asked: plans.Round = dict(enumerate(plans.writing(decision.changes, reading.exists)))
        asked |= {f"owed {number}": each for number, each in enumerate(plans.owing(decision.messages, decided.now))}
        is_change = bool(asked)
        if _is_of_time(footprint):
            asked["next due"] = Ask(sql.NEXT_DUE)
        if is_change:
            found = await self._commit(transaction, asked)
        else:
            found = await transaction.ask(asked) if asked else {}
        self._wake_at(_first_due(decision.changes))
        for (next_due,) in found.get("next due", ()):
            others_have_it = self._clock() + SKIPPED_MS if not is_change else 0
            self._wake_at(NEVER if next_due is None else max(next_due, others_have_it))
        return is_change

    async def _commit(self, transaction: Transaction, asked: plans.Round) -> plans.Found:
        began = time.perf_counter()
        self._health.commits()
        try:
            found = await transaction.commit(asked)
        except (*FASTER, TOO_LONG):
            raise
        except AWAY as error:
            self._fail(error)
            if not await self._was_committed(transaction):
                raise
            found = {"next due": [(0,)]}
        self._health.worked()
        self._listener.committed(1, time.perf_counter() - began)
        return found

    async def _was_committed(self, transaction: Transaction) -> bool:
        """Nothing is told before the database has said so, however long that takes."""
        await transaction.leave()
        connection, number = transaction.ending
        while True:
            try:
                async with await connect_async(self._url) as another:
                    ending = await another.execute(sql.GET_ENDING.encode(), (connection,))
                    return await ending.fetchall() == [(number,)]
            except AWAY:
                await asyncio.sleep(PAUSE_S)

    @contextmanager
    def _minding_the_alarm(self, footprint: Footprint) -> Iterator[None]:
        """What becomes due meanwhile, or is left over, rings again."""
        if not _is_of_time(footprint):
            yield
            return
        before, self._alarm = self._alarm, NEVER
        try:
            yield
        except BaseException:
            self._wake_at(before)
            raise

    def _wake_at(self, time: int) -> None:
        if time < self._alarm:
            self._alarm = time
            self._is_earlier.set()

    def _publish(self, inquiry: Inquiry, decided: Decided) -> None:
        self._due_at = inquiry.due_at
        if inquiry.tell(decided.decision.answer):
            self.outgoing.leaves(decided.decision.answer)
        self.outgoing.resume_one()
        try:
            self._listener.decided(decided)
        except Exception:
            logger.exception("what was decided could not be told")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._pool.connection(timeout=CONNECTION_S) as connection:
            transaction = Transaction(connection)
            try:
                yield transaction
            finally:
                await transaction.leave()

    # --- alone, and looking -----------------------------------------------------------------------------------------

    async def _alone[T](self, plan: Callable[[], Plan[T]]) -> T:
        """A transaction beside which there is no other. Raises :class:`ReadFailed`."""
        async with self._turns.alone():
            return await self._carry_out(plan)

    async def _carry_out[T](self, plan: Callable[[], Plan[T]]) -> T:
        while True:
            await self._at_work()
            try:
                async with self._transaction() as transaction:
                    result = await transaction.run(plan())
                    await transaction.commit({})
                    return result
            except FASTER as error:
                logger.debug("asked again: %s", error)
            except (psycopg.Error, OSError) as error:
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
        ids, addresses = [id for id, _ in keys], [address for _, address in keys]

        def plan() -> Plan[None]:
            yield {"drop": Ask(sql.DROP_UNBLOCKS, (ids, addresses))}

        try:
            await self._carry_out(plan)
        except BaseException:
            self._delivered.extendleft(keys)
            raise

    async def _read[T](self, query: Callable[[View], T]) -> T:
        """What others decide meanwhile cannot be waited for, so neither is what this server does."""
        async with self._turns.together() if self.sharing.has_others else self._turns.alone():
            await self._at_work()
            await self._forget_delivered()
            return await self._look(query)

    async def _browse[T](self, query: Callable[[View], T]) -> T:
        if refusal := self._refusal():
            raise ReadFailed(refusal)
        try:
            async with asyncio.timeout(PATIENCE_S), self._for_views():
                await self._at_work()
                return await self._look(query)
        except TimeoutError:
            raise ReadFailed(self.sharing.trouble or "the database is too slow") from None

    async def _look[T](self, query: Callable[[View], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._look_now, query)
        except AWAY as error:
            self._fail(error)
            raise ReadFailed(told(error)) from error

    def _look_now[T](self, query: Callable[[View], T]) -> T:
        """On a thread."""
        with self._views.connection(timeout=CONNECTION_S) as connection:
            connection.execute(sql.LOOK)
            try:
                return query(PostgresView(connection))
            finally:
                with suppress(psycopg.Error):
                    connection.execute(sql.COMMIT)


def _check_absent(reading: LockedRows, appeared: set[str]) -> None:
    if not appeared.isdisjoint(reading.absent):
        raise Outdated


def _is_of_time(footprint: Footprint) -> bool:
    """After it, the database is asked what is due next. Leases begin anew at the start, when nobody knows it yet."""
    return bool(footprint.due or footprint.leased)


def _first_due(changes: Changes) -> int:
    """Of what they bring."""
    times = [task.timer_at for task in changes.tasks.values() if task.timer_at is not None]
    pending = [promise for promise in changes.promises.values() if promise.state is PromiseState.PENDING]
    times += [promise.timeout_at for promise in pending if promise.is_external]
    times += [schedule.next_run_at for schedule in changes.schedules.values() if schedule is not None]
    times += [0 for link in changes.links if isinstance(link, PutSpreading)]
    return min(times, default=NEVER)


def _reset() -> Plan[Counter[TaskState]]:
    counted = yield {"tasks": Ask(sql.COUNT_TASKS)}
    yield from plans.reset()
    return Counter({TaskState(state): count for state, count in counted["tasks"]})
