"""A process that dies, or whose disk fills up, during a checkpoint leaves a file and a log that are intact together.

SQLite's checkpoint writes the newest version of each page in the log to the file, in page order. :func:`checkpoint`
does the same here, but only for the first pages.
"""

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from unit.rows import changes, promise, snapshot, transaction, write

from resonate_server.kernel.model import Footprint
from resonate_server.protocol.records import Value
from resonate_server.store.sqlite import Database, StoreUnusable, file, sessions
from resonate_server.store.sqlite.whole_file import whole_file

PAGE_BYTES = 2_048
IDS = [f"p{number}" for number in range(12)]
FORMER = sorted((Path(__file__).parent / "files").glob("format_*.sql"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


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
    """Write the first ``steps`` pages of a checkpoint."""
    pages = pages_in(sessions.log_of(path).read_bytes())
    with path.open("r+b") as out:
        for number in sorted(pages)[:steps]:
            out.seek((number - 1) * len(pages[number]))
            out.write(pages[number])


def crash(path: Path, left: Path) -> Path:
    """Copy to ``left`` what a SIGKILL would leave on disk now."""
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), left.with_name(left.name + suffix))
    return left


def fill(store: Database) -> None:
    for id in IDS:
        write(store, promise(id, param=Value(data=id * 3_000)))


def everything(path: Path) -> bool:
    store = Database(path)
    with transaction(store):
        there = set(store.load(Footprint(ids=tuple(IDS))).promises) == set(IDS)
    store.close()
    return there


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
    fill(store)
    if request.param == "before a fold":
        begun_fold(store._db)
    left = crash(path, path.with_name("crashed.db"))
    store.close()
    return left


def broken_off(crashed: Path) -> Iterator[Path]:
    """Yield the database as left by a crash after each page of the checkpoint."""
    pages = len(pages_in(sessions.log_of(crashed).read_bytes()))
    assert pages > 2
    for steps in range(pages + 1):
        left = crash(crashed, crashed.with_name("left.db"))
        checkpoint(left, steps)
        yield left


def test_the_next_start_has_everything(crashed: Path) -> None:
    for left in broken_off(crashed):
        assert everything(left)


def test_recovery_has_everything(crashed: Path) -> None:
    for left in broken_off(crashed):
        sessions.recover(left)
        assert everything(left)


def test_a_copy_to_another_store_has_everything(crashed: Path) -> None:
    for left in broken_off(crashed):
        with whole_file(left) as whole:
            assert {row[0] for row in whole.rows("promises")} == set(IDS)


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
        again = Database(left)
        assert snapshot(again) == before
        again.close()


def test_folding_the_log_in_with_sqlite_leaves_a_complete_file(path: Path) -> None:
    store = Database(path)
    fill(store)
    left = crash(path, path.with_name("left.db"))
    store.close()
    with closing(sqlite3.connect(left)) as db:
        assert db.execute("SELECT count(*) FROM promises").fetchone() == (len(IDS),)
    assert not sessions.log_of(left).exists()

    assert everything(left)


def test_a_log_that_is_full_is_folded_in_and_the_file_needs_the_next_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonate_server.store.sqlite.log.FULL_BYTES", 30 * PAGE_BYTES)
    store = Database(path)
    size = sessions.log_of(path).stat().st_size
    for _ in range(20):
        fill(store)
    assert sessions.log_of(path).stat().st_size < size + 100 * (24 + PAGE_BYTES), "it is written anew again and again"
    left = crash(path, path.with_name("left.db"))
    store.close()

    sessions.log_of(left).unlink()
    with pytest.raises(StoreUnusable, match=r"its log left\.db-wal is gone"):
        Database(left)


@pytest.mark.parametrize("content", [None, b""])
def test_a_log_without_its_file_is_refused_and_kept(path: Path, content: bytes | None) -> None:
    store = Database(path)
    fill(store)
    left = crash(path, path.with_name("left.db"))
    store.close()
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


def test_the_log_of_another_file_is_refused_and_both_are_kept(path: Path) -> None:
    """A copy of a database replaced the file, but the old log was left."""
    Database(path).close()
    copy = path.read_bytes()
    for _ in range(2):
        Database(path).close()
    store = Database(path)
    fill(store)
    left = crash(path, path.with_name("left.db"))
    store.close()
    left.write_bytes(copy)
    log = sessions.log_of(left).read_bytes()

    with pytest.raises(StoreUnusable, match="do not belong together"):
        Database(left)

    assert (left.read_bytes(), sessions.log_of(left).read_bytes()) == (copy, log)


def test_a_file_that_was_cut_short_in_use_is_not_made_worse_by_the_end(path: Path) -> None:
    store = Database(path)
    fill(store)
    log = sessions.log_of(path).read_bytes()
    with path.open("r+b") as out:
        out.truncate(100)
    store.close()

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
    assert everything(path)
    assert everything(path)


def test_a_file_behind_a_symbolic_link_is_complete_after_a_crash(path: Path) -> None:
    store = Database(path)
    fill(store)
    left = crash(path, path.with_name("left.db"))
    store.close()
    link = path.with_name("link.db")
    link.symlink_to(left)

    assert everything(link)


def test_a_file_that_sqlite_cannot_read_is_refused_with_advice(path: Path) -> None:
    path.write_text("no database\n" * 1_000)
    with pytest.raises(StoreUnusable, match=f"resonate-server restore BACKUP --db {path} --replace"):
        Database(path)


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
    left = crash(path, path.with_name("left.db"))
    store.close()
    assert everything(left)
