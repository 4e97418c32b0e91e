"""A process that dies, or whose disk fills up, during a checkpoint leaves a file and a log that are intact together."""

import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from unit.rows import changes, promise, snapshot, write
from unit.store.stores import crash, execute, promises_in

from resonate_server.protocol.records import Value
from resonate_server.store.sqlite import Database, StoreUnusable, file, sessions
from resonate_server.store.sqlite.whole_file import whole_file

PAGE_BYTES = 2_048
IDS = {f"p{number}" for number in range(6)}
FORMER = sorted((Path(__file__).parent / "files").glob("format_*.sql"))


def pages_in(log: bytes) -> dict[int, bytes]:
    """Return the newest committed version of each page in the log (sqlite.org/fileformat2.html, section 4)."""
    (size,) = struct.unpack(">I", log[8:12])
    salts, committed, pages = log[16:24], {}, {}
    for place in range(32, len(log) - 24 - size + 1, 24 + size):
        number, pages_after, *_ = struct.unpack(">II", log[place : place + 8])
        if log[place + 8 : place + 16] != salts:
            break
        pages[number] = log[place + 24 : place + 24 + size]
        if pages_after:
            committed = dict(pages)
    return committed


def checkpoint(path: Path, steps: int) -> None:
    """Write the first ``steps`` pages as SQLite does: the newest version of each page in the log, in page order."""
    pages = pages_in(sessions.log_of(path).read_bytes())
    with path.open("r+b") as out:
        for number in sorted(pages)[:steps]:
            out.seek((number - 1) * len(pages[number]))
            out.write(pages[number])


def fill(store: Database) -> None:
    for id in sorted(IDS):
        write(store, promise(id, param=Value(data=id * 3_000)))


def begun_fold(db: sqlite3.Connection) -> None:
    """Begin a fold, but stop before the checkpoint."""
    db.execute(sessions.FILE_NEEDS_LOG)


@pytest.fixture(params=["a new file", "under load", "before a fold"])
def crashed(request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database killed after everything was acknowledged."""
    with monkeypatch.context() as patched:
        if request.param == "a new file":
            patched.setattr(file, "fold", begun_fold)
        store = Database(path)
    with closing(store):
        fill(store)
        if request.param == "before a fold":
            begun_fold(store._db)
        return crash(path, path.with_name("crashed.db"))


@pytest.fixture
def left(path: Path) -> Path:
    """A full database, killed."""
    with closing(Database(path)) as store:
        fill(store)
        return crash(path)


def broken_off(crashed: Path) -> Iterator[Path]:
    """Yield the database as left by a crash after the first pages of the checkpoint, and then after each tenth."""
    pages = len(pages_in(sessions.log_of(crashed).read_bytes()))
    assert pages > 2
    for steps in sorted({*range(min(4, pages)), *range(4, pages, 10), pages - 1, pages}):
        left = crash(crashed)
        checkpoint(left, steps)
        yield left


@pytest.mark.parametrize(
    "begin", [lambda _: None, sessions.recover], ids=["the next start", "the next start after a recovery"]
)
def test_after_a_crash_everything_is_there_at(crashed: Path, begin: Callable[[Path], object]) -> None:
    for left in broken_off(crashed):
        begin(left)
        assert promises_in(left) == IDS


def test_a_copy_to_another_store_has_everything(crashed: Path) -> None:
    for left in broken_off(crashed):
        with whole_file(left, is_source=True) as whole:
            assert {row[0] for row in whole.rows("promises")} == IDS


@pytest.mark.parametrize("crashed", ["a new file", "before a fold"], indirect=True)
def test_without_its_log_no_file_is_accepted_as_complete(crashed: Path) -> None:
    for left in broken_off(crashed):
        sessions.log_of(left).unlink()
        before = left.read_bytes()
        if sessions.session_in_file(left) is not None or len(before) > PAGE_BYTES:  # else nothing was acknowledged
            with pytest.raises(StoreUnusable, match="restore BACKUP"):
                Database(left)
            assert left.read_bytes() == before


@pytest.mark.parametrize("former", FORMER, ids=lambda each: each.stem)
def test_a_migration_is_done_even_if_its_checkpoint_is_interrupted(
    former: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(former.read_text())
    with monkeypatch.context() as patched:
        patched.setattr(file, "fold", begun_fold)
        store = Database(path)
    before = snapshot(store)
    crashed = crash(path, path.with_name("crashed.db"))
    store.close()

    for left in broken_off(crashed):
        with closing(Database(left)) as again:
            assert snapshot(again) == before


def test_folding_the_log_in_with_sqlite_leaves_a_complete_file(left: Path) -> None:
    assert execute(left, "SELECT count(*) FROM promises") == [(len(IDS),)]
    assert not sessions.log_of(left).exists()

    assert promises_in(left) == IDS


def test_a_log_that_is_full_is_folded_in_and_the_file_needs_the_next_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonate_server.store.sqlite.log.FULL_BYTES", 30 * PAGE_BYTES)
    store = Database(path)
    size = sessions.log_of(path).stat().st_size
    for _ in range(20):
        fill(store)
    assert sessions.log_of(path).stat().st_size < size + 100 * (24 + PAGE_BYTES), "it is written anew again and again"
    left = crash(path)
    store.close()

    sessions.log_of(left).unlink()
    with pytest.raises(StoreUnusable, match=r"its log left\.db-wal is gone"):
        Database(left)


@pytest.mark.parametrize("content", [None, b""])
def test_a_log_without_its_file_is_refused_and_kept(left: Path, content: bytes | None) -> None:
    log = sessions.log_of(left).read_bytes()
    left.unlink()
    if content is not None:
        left.write_bytes(content)

    with pytest.raises(StoreUnusable, match=f"its log left.db-wal is still there.*restore BACKUP --db {left}"):
        Database(left)
    with pytest.raises(sessions.LogLost):
        sessions.recover(left)

    assert sessions.log_of(left).read_bytes() == log
    assert left.exists() is (content is not None)


def test_a_file_that_was_cut_short_in_use_is_not_made_worse_by_the_end(path: Path) -> None:
    with closing(Database(path)) as store:
        fill(store)
        log = sessions.log_of(path).read_bytes()
        os.truncate(path, 100)

    assert path.stat().st_size == 100
    assert sessions.log_of(path).read_bytes() == log


def test_after_a_fold_without_space_nothing_is_lost_and_the_next_one_works(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Database(path)

    def full(db: sqlite3.Connection) -> None:
        begun_fold(db)
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(file, "fold", full)
        fill(store)
        store.close()
    assert sessions.log_of(path).stat().st_size > 0
    assert promises_in(path) == IDS
    assert promises_in(path) == IDS


def test_a_file_behind_a_symbolic_link_is_complete_after_a_crash(path: Path, left: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(left)

    assert promises_in(link) == IDS


def test_a_log_with_an_active_reader_is_folded_in_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resonate_server.store.sqlite.log.FULL_BYTES", 30 * PAGE_BYTES)
    store = Database(path)
    store.write(changes(promise("first")))
    store.flush()
    reader = store._db.execute("SELECT * FROM sqlite_schema")
    reader.fetchone()
    store.commit()
    fill(store)
    before = path.read_bytes()
    reader.close()
    fill(store)
    assert path.read_bytes() != before
    left = crash(path)
    store.close()
    assert promises_in(left) == IDS | {"first"}
