"""One server on SQLite that can die before a commit, between commit and send, and in the middle of sending."""

import asyncio
from collections.abc import Callable

from simulation import invariants
from simulation.run import Run
from simulation.server import Cluster, CountingEngine, Server, watched
from unit.engines import HandClock

from resonate_server.engine.outbound import DecisionObserver
from resonate_server.kernel.model import Changes, Footprint, Rule, Task
from resonate_server.protocol.answers import Answer
from resonate_server.store import Decided
from resonate_server.store.found import Snapshot
from resonate_server.store.sqlite import IN_MEMORY, Database, SQLiteStore
from resonate_server.store.sqlite.store import Job, Outcome


class Crash(BaseException):
    """Raised where the server dies."""


class WatchedDatabase(Database):
    """Checks every write against the rules for a row before and after it; the server may die at the commit.

    Only what was committed survives: a transaction in which the server dies is rolled back.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(IN_MEMORY)
        self.run = run
        self.dies_before_commit = False

    def task(self, id: str) -> Task | None:
        return self.load(Footprint(ids=(id,))).tasks.get(id)

    def fork(self) -> "WatchedDatabase":
        """Return the committed state in a new database, as if reopened from disk."""
        self.rollback()
        twin = WatchedDatabase(self.run)
        self._db.backup(twin._db)
        return twin

    @property
    def in_transaction(self) -> bool:
        """Whether something was written and is not committed."""
        return self._db.in_transaction

    @property
    def log_to_sync(self) -> int:
        """No file: the kernel cannot sync it, so a thread commits."""
        return -1

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
        for id in changes.promises:
            self.run.check(invariants.a_promise_changes_only_once(before.promises.get(id), after.promises[id]))
        for id, task in changes.tasks.items():
            self.run.check(invariants.a_task_never_goes_back(before.tasks.get(id), task))
            self.run.check(invariants.a_task_has_a_timer_or_a_lease(task, after.promises[id]))


class SteppedStore(SQLiteStore):
    """A store that does its thread's work on the loop, where the server may die, and that checks each answer."""

    def __init__(self, database: WatchedDatabase) -> None:
        self.run_state = database.run
        super().__init__(database, HandClock(self.run_state.now_ms))
        self.watched = database
        self.die: Callable[[], None]
        self.dies_while_publishing = False

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        return super().decide(footprint, watched(self.run_state, rule))

    async def _run(self) -> None:
        """Pause first, so that requests queue up."""
        try:
            await self._pause()
            await super()._run()
        except Crash:
            self.die()

    async def _on_thread[T](self, work: Callable[[], T]) -> T:
        """Pause, so that the server may die, then work."""
        await self._pause()
        return work()

    async def _pause(self) -> None:
        await asyncio.sleep(self.run_state.rng.random() * 0.004)

    def _publish(self, batch: list[Job], outcomes: list[Outcome]) -> None:
        self.run_state.check(invariants.nothing_leaves_before_the_commit(outcomes, self.watched.in_transaction))
        if self.dies_while_publishing:
            done = self.run_state.rng.randint(0, len(batch))
            super()._publish(batch[:done], outcomes[:done])
            raise Crash
        super()._publish(batch, outcomes)


class CommitFirst(DecisionObserver):
    """Checks that no decision is reported before its commit."""

    def __init__(self, database: WatchedDatabase) -> None:
        self._database = database

    def decided(self, decided: Decided) -> None:
        told_early = invariants.nothing_leaves_before_the_commit(decided, self._database.in_transaction)
        self._database.run.check(told_early)


class OnlyServer(Server):
    """The only server of its cluster. After a crash, its successor gets a fork of the database."""

    def __init__(self, database: WatchedDatabase) -> None:
        self.database = database
        self.seam = SteppedStore(database)
        self.seam.die = self.crash
        super().__init__(database.run, CountingEngine(database.run, self.seam))
        self.engine.observers.append(CommitFirst(database))
        self.outbound = self.hub

    def worker_gone(self, group: str, pid: str) -> None:
        self.run.happened["leases given back early"] += bool(self.database.held_tasks(pid))
        super().worker_gone(group, pid)


class OnSQLite(Cluster):
    faults = ("server dies", "server dies before a commit", "server dies while sending")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._database = WatchedDatabase(run)

    async def begin(self) -> None:
        self._start()

    def _start(self) -> None:
        self._database = self._database.fork()
        self.run.note("server", "starts")
        self.inspect()
        self._server = OnlyServer(self._database)
        self.servers = [self._server]
        self._server.start()

    def snapshot(self) -> Snapshot:
        return self._database.snapshot()

    async def strike(self, fault: str) -> None:
        match fault:
            case "server dies":
                self._server.crash()
            case "server dies before a commit":
                self._database.dies_before_commit = True
            case "server dies while sending":
                self._server.seam.dies_while_publishing = True
        await self._until_dead()
        await asyncio.sleep(self.run.rng.random() * 5)
        self._start()

    async def _until_dead(self) -> None:
        """Wait until the server dies at its next commit; if nothing is written for 10 s, crash it."""
        for _ in range(200):
            if not self._server.alive:
                return
            await asyncio.sleep(0.05)
        self._server.crash()
