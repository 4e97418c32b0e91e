"""Acknowledged writes are on disk, and a write that fails in part is not acknowledged at all."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from unit.driver import promise_create
from unit.rows import NOW, changes, promise, transaction, write
from unit.store.servers import PATIENCE_S, Told, answering
from unit.store.stores import break_descriptor, crash, descriptor_of, promises_in

from resonate_server.kernel.model import Footprint
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import PromiseState, Value
from resonate_server.protocol.requests import PromiseGet, PromiseSearch, Request, ScheduleGet
from resonate_server.store.errors import ReadFailed, StoreFailed, StoreLost
from resonate_server.store.sqlite import Database, SQLiteStore, sessions


@pytest.mark.parametrize(("arguments", "times"), [([], 1), (["FULL"], 1), (["NORMAL"], 0)])
def test_a_commit_waits_for_the_disk_as_configured(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any], times: int
) -> None:
    store = Database(path, *arguments)
    synced: list[tuple[int, bytes]] = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, sessions.log_of(path).read_bytes()))

    monkeypatch.setattr("resonate_server.store.sqlite.log._sync", sync)
    log = sessions.log_of(path).stat().st_ino
    write(store, promise("a-new-promise"))
    store.close()

    assert [inode for inode, _ in synced] == [log] * times
    assert all(b"a-new-promise" in written for _, written in synced)


def test_a_log_that_cannot_be_synced_stops_the_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Database(path)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("resonate_server.store.sqlite.log._sync", fail)
    with pytest.raises(StoreLost, match="the disk does not keep what is written: Input/output error"):
        write(store, promise("p"))
    store.close()


@pytest.mark.parametrize(
    ("name", "value"), [("synchronous", 1), ("journal_mode", "wal"), ("locking_mode", "exclusive")]
)
def test_sqlite_syncs_when_the_log_is_folded_and_locks_the_file(store: Database, name: str, value: object) -> None:
    assert store._db.execute(f"PRAGMA {name}").fetchone() == (value,)


ASKED: dict[str, Callable[[Database], object]] = {
    "write": lambda store: store.write(changes(promise("after"))),
    "flush": lambda store: store.flush(),
    "search": lambda store: store.search(PromiseSearch(), NOW),
    "roots": lambda store: list(store.recent_roots(None, None, NOW)),
    "mark": lambda store: store.clock_mark(),
    "due": lambda store: store.due(NOW, 10),
}


class TestAfterAFailure:
    """The disk was full for a moment."""

    @pytest.fixture
    def failed(self, store: Database) -> Database:
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages + 20}")
        store.write(changes(promise("before")))
        store.flush()
        with suppress(StoreFailed):
            store.write(changes(promise("big", param=Value(data="x" * 1_000_000))))
        store._db.execute(f"PRAGMA max_page_count = {pages + 2_000}")
        return store

    @pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
    def test_after_a_failure_its_transaction_accepts_no_more_work(
        self, failed: Database, ask: Callable[[Database], object]
    ) -> None:
        with pytest.raises(StoreFailed):
            ask(failed)

    def test_the_next_transaction_contains_nothing_of_the_failed_one(self, failed: Database) -> None:
        failed.rollback()
        write(failed, promise("next"))
        with transaction(failed):
            assert set(failed.load(Footprint(ids=("before", "big", "next"))).promises) == {"next"}


async def test_a_closed_store_refuses_and_has_no_trouble_to_tell_of(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SQLiteStore(Database(path))
    store.start(Told())
    await store.close()
    with pytest.raises(ReadFailed, match="stops"):
        await store.read(lambda view: view.count_tasks())
    assert caplog.messages == []


class TestBrokenDisk:
    """What a disk that returns errors does to requests; descriptors that fail stand in for it."""

    @pytest.fixture
    async def served(self, path: Path) -> AsyncIterator[SQLiteStore]:
        """A store with many promises, opened again, so that few pages are in memory."""
        with closing(Database(path)) as database:
            write(database, *(promise(f"p{number:04}") for number in range(2_000)))
        served = SQLiteStore(Database(path))
        served.start(Told())
        yield served
        await served.close()

    async def ask(self, served: SQLiteStore, *requests: Request) -> list[Answer]:
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*(served.decide(*answering(request)) for request in requests))

    async def test_a_page_that_cannot_be_read_makes_no_other_request_of_its_batch_a_lie(
        self, path: Path, served: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SQLite undoes a transaction in which it cannot read."""
        monkeypatch.setattr("resonate_server.store.sqlite.store.MAX_DECIDING_S", PATIENCE_S)
        await self.ask(served, promise_create("q1"), ScheduleGet("s"))
        break_descriptor(descriptor_of(path), path)

        batch = promise_create("q3"), ScheduleGet("s"), PromiseGet("p0500")
        answers = await self.ask(served, promise_create("q2"), *batch)  # While q2 is committed, the others queue up.

        assert [answer.status for answer in answers] == [200, 503, 503, 503]
        assert promises_in(crash(path)) & {"q1", "q2", "q3"} == {"q1", "q2"}

    async def test_a_request_for_it_is_refused_with_the_reason(self, path: Path, served: SQLiteStore) -> None:
        break_descriptor(descriptor_of(path), path)
        [answer] = await self.ask(served, PromiseGet("p0500"))
        assert answer == Answer(503, "the database cannot be read; nothing was changed: disk I/O error")

    async def test_a_log_that_cannot_be_read_stops_nothing(self, path: Path, served: SQLiteStore) -> None:
        log = served.database.log_to_sync
        assert log is not None
        break_descriptor(log, sessions.log_of(path))
        for number in range(3):
            [answer] = await self.ask(served, promise_create(f"q{number}"))
            assert answer.status == 200

    async def test_after_a_sync_that_failed_nobody_is_told_that_nothing_was_changed(
        self, path: Path, served: SQLiteStore
    ) -> None:
        """The log has it, and the next start may find it there."""
        log = served.database.log_to_sync
        assert log is not None
        break_descriptor(log, "/dev/null")
        [answer] = await self.ask(served, promise_create("q"))

        assert answer.status == 503
        assert "whether this was done will show when it is back: the disk does not keep what is written" in answer.data
        assert "q" in promises_in(crash(path))


class TestDiskUse:
    def test_space_of_deleted_trees_is_returned(self, path: Path, store: Database) -> None:
        for number in range(8):
            write(store, promise(f"p-{number}", PromiseState.RESOLVED, value=Value(data="x" * 1_000_000)))
        full = path.stat().st_size + sessions.log_of(path).stat().st_size

        with transaction(store):
            store.drop_settled_trees(NOW + 1, 100)
            assert list(store.search(PromiseSearch(), NOW)) == []
        steps = 0
        while self.give_back(store):
            steps += 1
            assert steps < 100

        assert path.stat().st_size < full // 2
        assert steps > 0
        write(store, promise("after"))
        store.check()

    def test_a_little_space_is_kept_for_new_rows(self, path: Path, store: Database) -> None:
        write(store, promise("p", PromiseState.RESOLVED, value=Value(data="x" * 500_000)))
        with transaction(store):
            store.drop_settled_trees(NOW + 1, 100)
        size = path.stat().st_size

        assert not self.give_back(store)
        assert path.stat().st_size == size

    def give_back(self, store: Database) -> bool:
        more = store.give_back()
        store.commit()
        return more


def test_an_owed_message_names_no_promise_that_is_gone(store: Database) -> None:
    settled = promise("p", PromiseState.RESOLVED, value=Value(data="x"))
    write(store, settled)
    with transaction(store):
        for number in range(3):
            store.put_unblock(Unblock(settled, f"poll://uni@callers/{number}"), NOW)
        store.put_unblock(Unblock(promise("missing"), "poll://uni@callers/0"), NOW)
    with transaction(store):
        owed = [each.unblock for each in store.unblocks("callers", "0", 0)]
    assert owed == [Unblock(settled, "poll://uni@callers/0")]
