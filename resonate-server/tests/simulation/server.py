"""The server in the simulation: the real engine, hub and kernel on a store that survives crashes, without threads and
sockets. It can die at any point: before a commit, between commit and send, in the middle of sending."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from msgspec.structs import replace
from simulation import invariants
from simulation.run import Run
from unit.engines import HandClock

from resonate_server.config import HttpPush
from resonate_server.delivery import UNBLOCK_KEPT_S, Dispatcher, Hub, Presence, Push, WorkerStream
from resonate_server.engine import Engine, EngineSettings
from resonate_server.kernel.model import (
    Changes,
    Decision,
    Footprint,
    LinkFootprint,
    Notice,
    Rows,
    Rule,
    Rules,
    Task,
)
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import UnreadableRequest, decode_request, open_envelope
from resonate_server.protocol.messages import Message
from resonate_server.protocol.requests import (
    Request,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)
from resonate_server.store.sqlite import IN_MEMORY, Database, SQLiteStore
from resonate_server.store.sqlite.store import Job, Outcome

WRITES = (TaskRelease, TaskFulfill, TaskSuspend, TaskFence)

RETRY_S = 30
GRACE_S = 3.0
KEEP_ALIVE_S = 10.0

METRICS = Metrics()
"""One for all runs: building it takes longer than a run."""

SETTINGS = EngineSettings(
    rules=Rules(retry_timeout_ms=RETRY_S * 1_000, told_at_once=1),
    server_url="http://localhost:8001",
)


class Crash(BaseException):
    """The server dies here."""


class Stream(Protocol):
    """The far end of a worker's stream, as the server sees it."""

    group: str
    pid: str

    def write(self, message: Message) -> None:
        """Into the network."""

    def end(self) -> None:
        """Close it properly."""


class WatchedDatabase(Database):
    """Every write is checked against the rules that hold from row to row; the commit may be where the server dies.

    What was committed is what is there: a transaction in which the server dies is rolled back.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(IN_MEMORY)
        self.run = run
        self.request: object = None
        self.dies_before_commit = False

    def task(self, id: str) -> Task | None:
        return self.load(Footprint(ids=(id,))).tasks.get(id)

    def fork(self) -> "WatchedDatabase":
        """What is on disk, opened anew."""
        twin = WatchedDatabase(self.run)
        self._db.backup(twin._db)
        return twin

    @property
    def in_transaction(self) -> bool:
        """Something was written and is not committed."""
        return bool(self._unwritten) or self._db.in_transaction

    def commit(self) -> None:
        if self.dies_before_commit:
            raise Crash
        super().commit()

    def write(self, changes: Changes) -> None:
        ids = (*changes.promises, *changes.tasks)
        touched = Footprint(ids=ids, shown=ids)
        before = super().load(touched)
        super().write(changes)
        after = super().load(touched)
        is_claim = isinstance(self.request, TaskCreate | TaskAcquire)
        for id in changes.promises:
            promise = after.promises[id]
            self.run.check(invariants.a_settled_promise_never_changes(before.promises.get(id), promise))
            self.run.check(invariants.what_a_promise_is_never_changes(before.promises.get(id), promise))
        for id, task in changes.tasks.items():
            was = before.tasks.get(id)
            self.run.check(invariants.a_version_grows_only_by_a_claim(was, task, is_claim))
            if isinstance(self.request, TaskHeartbeat):
                self.run.check(invariants.only_the_holder_extends_a_lease(was, self.request))
            self.run.check(invariants.a_fulfilled_task_never_changes(was, task))
            self.run.check(invariants.a_task_is_cared_for(task, after.promises[id]))


class PromisedAnswer(asyncio.Future[Any]):
    """Once it has a result, the answer is on its way."""

    def __init__(self, database: WatchedDatabase) -> None:
        super().__init__()
        self._database = database

    def set_result(self, result: Any) -> None:
        self._database.run.check(invariants.nothing_leaves_before_the_commit(result, self._database.in_transaction))
        super().set_result(result)


class SteppedStore(SQLiteStore):
    """The store, whose thread's work is done on the loop; the server may die in it. Checks what is answered, and tells
    the database whose writes are coming."""

    def __init__(self, database: WatchedDatabase) -> None:
        self.run_state = database.run
        super().__init__(database, HandClock(self.run_state.now_ms))
        self.watched = database
        self.die: Callable[[], None]
        self.dies_while_publishing = False
        self.alive = True

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        return super().decide(footprint, replace(rule, decide=self._watching(rule)))

    def _watching(self, rule: Rule) -> Callable[[Rows, int], Decision | Footprint | LinkFootprint]:
        def decide(rows: Rows, now: int) -> Decision | Footprint | LinkFootprint:
            request = self.watched.request = rule.request
            outcome = rule.decide(rows, now)
            if isinstance(outcome, Decision):
                self._check(request, rows, outcome.answer)
            return outcome

        return decide

    def _check(self, request: Request | None, rows: Rows, answer: Answer) -> None:
        if isinstance(request, WRITES):
            before = rows.tasks.get(request.id)
            self.run_state.check(invariants.a_worker_s_write_needs_the_lease(before, request, answer.status))
        elif isinstance(request, TaskAcquire):
            self.run_state.check(invariants.a_claim_names_the_version_it_takes(request, answer))

    async def _run(self) -> None:
        try:
            await super()._run()
        except Crash:
            self.die()

    def end(self) -> None:
        """At once, wherever it is."""
        self.alive = False
        self._running.cancel()
        self.watched.rollback()

    async def _wait_for_jobs_or_alarm(self) -> None:
        """With a pause in which requests queue up."""
        await super()._wait_for_jobs_or_alarm()
        await self._pause()

    async def _on_thread[T](self, work: Callable[[], T]) -> T:
        """With a pause in which the server may die."""
        await self._pause()
        return work()

    async def _pause(self) -> None:
        await asyncio.sleep(self.run_state.rng.random() * 0.004)

    def _promise(self) -> asyncio.Future[Any]:
        return PromisedAnswer(self.watched)

    def _publish(self, batch: list[Job], outcomes: list[Outcome]) -> None:
        if not self.alive:
            return
        if self.dies_while_publishing:
            done = self.run_state.rng.randint(0, len(batch))
            super()._publish(batch[:done], outcomes[:done])
            self.die()
            return
        super()._publish(batch, outcomes)


class WatchedEngine(Engine):
    def __init__(self, store: SteppedStore) -> None:
        super().__init__(store, SETTINGS, METRICS)
        self._stepped = store

    def end(self) -> None:
        """At once, wherever it is."""
        self._stepped.end()
        for task in self._under_way:
            task.cancel()

    def worker_gone(self, pid: str) -> None:
        happened = self._stepped.run_state.happened
        happened["leases given back early"] += bool(self._stepped.watched.held_tasks(pid))
        super().worker_gone(pid)

    def _take_notice(self, notice: Notice) -> None:
        self._stepped.run_state.happened[type(notice).__name__] += 1


class CheckedOutbound(Dispatcher):
    """Nobody is addressed by HTTP here."""

    def __init__(self, hub: Hub, store: WatchedDatabase) -> None:
        super().__init__(hub, Push(HttpPush(), "", METRICS, lambda _: None), METRICS)
        self._store = store

    def send(self, message: Message) -> None:
        self._store.run.check(invariants.nothing_leaves_before_the_commit(message, self._store.in_transaction))
        super().send(message)


class Server:
    """One life of the server process. After :meth:`crash` its store is forked into the next one."""

    def __init__(self, run: Run, store: WatchedDatabase) -> None:
        self.run = run
        self.store = store
        self.seam = SteppedStore(store)
        self.seam.die = self.crash
        self.engine = WatchedEngine(self.seam)
        self.presence = Presence(GRACE_S, self.engine.now, self.engine.worker_gone)
        self.hub = Hub(self.engine, lambda *_: None, self.presence)
        self._open: dict[asyncio.Future[Answer], asyncio.Task[None]] = {}
        self._streams: dict[Stream, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        return self.seam.alive

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_exception)
        self.engine.start(CheckedOutbound(self.hub, self.store))
        self._tasks = [loop.create_task(self._keep_house())]

    def _on_exception(self, _: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.run.broken.append(f"unhandled: {context['message']} {error!r}")

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(60)
            self.presence.keep_house()
            self.engine.forget_stale_unblocks(UNBLOCK_KEPT_S)

    # --- requests ---------------------------------------------------------------------------------------------------

    def accept(self, body: bytes) -> asyncio.Future[Answer]:
        """The answer to a request that has arrived; ``ConnectionError`` if the server dies first."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = self._open[answer] = asyncio.get_running_loop().create_task(self._answer(body, answer))
        task.add_done_callback(lambda _: self._open.pop(answer, None))
        return answer

    async def _answer(self, body: bytes, answer: asyncio.Future[Answer]) -> None:
        envelope = open_envelope(body)
        assert not isinstance(envelope, UnreadableRequest), envelope
        decided = await self.engine.submit(decode_request(envelope))
        if decided.status == 500:
            self.run.broken.append(f"answered 500: {body.decode()}")
        if not answer.done():
            answer.set_result(decided)

    # --- streams ----------------------------------------------------------------------------------------------------

    def connect(self, stream: Stream, seconds: float) -> None:
        """Serve a stream for ``seconds`` at most."""
        self._streams[stream] = asyncio.get_running_loop().create_task(self._serve(stream, seconds))

    def lose(self, stream: Stream) -> None:
        """The peer is found to be gone."""
        task = self._streams.pop(stream, None)
        if task is not None and self.alive:
            task.cancel()

    async def _serve(self, stream: Stream, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        connection = self.hub.connect(stream.group, stream.pid)
        end = loop.time() + seconds
        planned = False
        try:
            while not connection.closed and (left := end - loop.time()) > 0:
                for message in await connection.wait(min(KEEP_ALIVE_S, left)):
                    stream.write(message)
            planned = True
        finally:
            self._end(stream, connection, planned)

    def _end(self, stream: Stream, connection: WorkerStream, planned: bool) -> None:
        if not self.alive:
            return
        self._streams.pop(stream, None)
        self.hub.disconnect(connection, planned)
        if planned:
            self.run.happened["stream ended by the server"] += 1
            stream.end()

    # --- death ------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """At once. Open requests get no answer, streams break."""
        if not self.alive:
            return
        self.engine.end()
        self.hub.stop()
        self.presence.close()
        for task in [*self._tasks, *self._streams.values()]:
            task.cancel()
        for stream in self._streams:
            stream.end()
        for answer, task in self._open.items():
            task.cancel()
            if not answer.done():
                answer.set_exception(ConnectionError("the server died"))
                answer.exception()
