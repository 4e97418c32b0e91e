"""The file of the SQLite store and its log: what survives, what is refused, and what is lost while in use."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from unit.rows import LATER, NOW, changes, promise, snapshot, task, transaction, write
from unit.store.stores import crash, execute, promises_in, seen

from resonate_server.kernel.model import PutCallback, PutListener
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import PromiseState, TaskState, Value
from resonate_server.store.errors import StoreFailed, StoreLost
from resonate_server.store.sqlite import Database, StoreUnusable, sessions
from resonate_server.store.sqlite.clock import ClockMark
from resonate_server.store.sqlite.lock import PathTaken


def test_everything_is_there_after_closing_and_opening(path: Path) -> None:
    store = Database(path)
    write(
        store,
        promise("p", param=Value(data="x"), tags={"resonate:branch": "b", "a": "1"}, timeout_at=LATER),
        task("p", queued=True, timer_at=NOW),
        promise("held", tags={"resonate:parent": "p"}),
        task("held", TaskState.ACQUIRED, pid="pid-1", timer_at=NOW),
        promise("settled", PromiseState.REJECTED, value=Value(data="y")),
        PutCallback("p", "held"),
        PutListener("p", "poll://uni@callers/1"),
    )
    with transaction(store):
        store.put_unblock(Unblock(promise("settled", PromiseState.REJECTED), "poll://uni@callers/1"), NOW)
        before = snapshot(store)
    store.close()

    with closing(Database(path)) as again:
        assert seen(again) == before


def test_missing_folders_are_made(tmp_path: Path) -> None:
    Database(tmp_path / "a" / "b" / "state.db").close()
    assert (tmp_path / "a" / "b" / "state.db").exists()


class TestRefused:
    """Files that are not ours; those of other versions are in the tests of the migrations."""

    def a_text(self, path: Path) -> None:
        path.write_text("no database, but a text that somebody may need\n" * 100)

    def cut_off(self, path: Path) -> None:
        Database(path).close()
        os.truncate(path, 5_000)

    def lacking_a_column(self, path: Path) -> None:
        """The schema was changed without raising its version."""
        Database(path).close()
        execute(path, "ALTER TABLE tasks DROP COLUMN lost_at")

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (a_text, r"not a database\. Restore a backup: resonate-server restore BACKUP --db .*state\.db --replace"),
            (cut_off, "malformed"),
            (lacking_a_column, "another version"),
        ],
    )
    def test_a_file_is_refused_with_its_name_and_the_reason_and_left_and_released(
        self, path: Path, make: Callable[[object, Path], None], reason: str
    ) -> None:
        make(self, path)
        before = path.read_bytes()
        with pytest.raises(StoreUnusable, match=rf"state\.db.*{reason}"):
            Database(path)
        assert path.read_bytes() == before
        path.unlink()
        Database(path).close()

    def test_so_is_a_place_where_no_file_can_be(self, path: Path) -> None:
        path.mkdir()
        for place in (path, path.parent / "state.db.lock" / "other.db"):
            with pytest.raises(StoreUnusable, match=str(place)):
                Database(place)

    def test_a_second_server_does_not_open_what_stands_in_the_place_of_a_file_in_use(
        self, path: Path, store: Database
    ) -> None:
        put(store, "a")
        path.unlink()
        with pytest.raises(StoreUnusable, match=rf"in use by another server \(pid {os.getpid()}\)"):
            Database(path)
        assert not path.exists()


def put(store: Database, id: str) -> None:
    with transaction(store):
        store.put_clock_mark(ClockMark(1, 1, ""))
        store.write(changes(promise(id)))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def ruin(path: Path) -> None:
    """Write zeros instead of data, as some file systems do after a power cut."""
    path.write_bytes(bytes(path.stat().st_size))


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


def overwrite(path: Path) -> None:
    """As ``cp BACKUP state.db`` does. The copy has the log in it, so the file does not shrink."""
    time.sleep(0.02)  # The time of the last change of a file has ticks.
    [copy] = [each for each in path.parent.iterdir() if each.name.endswith(("-copying", ".backup"))]
    shutil.copyfile(copy, path)


def hide(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.touch()


class TestLostInUse:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "state.db"

    @pytest.mark.parametrize(
        ("name", "harm", "reason"),
        [
            ("state.db", Path.unlink, "was removed while"),
            ("state.db-wal", Path.unlink, "was removed while"),
            ("state.db", move_away, "was removed while"),
            ("state.db", truncate, "was cut short while"),
            ("state.db-wal", truncate, "was cut short while"),
            ("state.db", replace, "was replaced while"),
            ("state.db-wal", replace, "was replaced while"),
            ("state.db", overwrite, "was overwritten while"),
            ("state.db-wal", hide, "cannot be found any more: Not a directory"),
        ],
    )
    def test_nothing_more_is_acknowledged(
        self, path: Path, store: Database, name: str, harm: Callable[[Path], None], reason: str
    ) -> None:
        for number in range(50):
            put(store, f"before-{number}")
        store.backup()
        harm(path.with_name(name))
        with pytest.raises(StoreLost, match=f"{name} {reason}"):
            put(store, "after")
        with pytest.raises(StoreLost):
            store.check()

    @pytest.mark.parametrize(("harm", "reason"), [(replace, "replaced"), (overwrite, "overwritten")])
    def test_so_it_is_if_that_happens_while_the_log_is_folded(
        self,
        path: Path,
        store: Database,
        monkeypatch: pytest.MonkeyPatch,
        harm: Callable[[Path], None],
        reason: str,
    ) -> None:
        def fold(db: sqlite3.Connection) -> None:
            sessions.fold(db)
            harm(path)

        put(store, "before")
        store.backup()
        monkeypatch.setattr("resonate_server.store.sqlite.database.fold", fold)
        store.fold_log()
        with pytest.raises(StoreLost, match=f"was {reason} while"):
            put(store, "after")

    def test_a_file_whose_time_was_set_is_still_the_same(self, path: Path, store: Database) -> None:
        put(store, "before")
        os.utime(path)
        put(store, "after")
        store.check()


class TestLogs:
    """Whether a file and a log belong together is known from the file alone."""

    @pytest.mark.parametrize("harm", [Path.unlink, truncate, ruin])
    def test_a_crashed_file_that_has_lost_its_log_is_refused_until_it_is_recovered(
        self, path: Path, harm: Callable[[Path], None]
    ) -> None:
        with closing(Database(path)) as store:
            put(store, "a")
            left = crash(path)
        harm(sessions.log_of(left))
        before = left.read_bytes()
        with pytest.raises(StoreUnusable, match=f"resonate-server recover --db {left}"):
            Database(left)
        assert left.read_bytes() == before

        sessions.recover(left)
        Database(left).close()

    def of_an_earlier_run(self, path: Path, left: Path) -> None:
        with closing(Database(path)) as store:
            put(store, "a")
            old = sessions.log_of(path).read_bytes()
        with closing(Database(path)) as store:
            put(store, "b")
            crash(path)
        sessions.log_of(left).write_bytes(old)

    def of_another_database(self, path: Path, left: Path) -> None:
        for name in ("other.db", "state.db"):
            with closing(Database(path.with_name(name))) as store:
                put(store, name)
                crash(path.with_name(name))
                if name == "other.db":
                    sessions.log_of(left).rename(path.with_name("other-wal"))
        path.with_name("other-wal").rename(sessions.log_of(left))

    def of_a_former_file(self, path: Path, left: Path) -> None:
        """A backup replaced the file of a server that had crashed, but not its log."""
        Database(path).close()
        backup = path.read_bytes()
        for _ in range(2):
            Database(path).close()
        with closing(Database(path)) as store:
            put(store, "a")
            crash(path)
        left.write_bytes(backup)

    def after_a_fold(self, path: Path, left: Path) -> None:
        """A program copied first the file, then the log, while the server worked."""
        with closing(Database(path)) as store:
            put(store, "a")
            before = path.read_bytes()
            store._fold()
            put(store, "b")
            crash(path)
        left.write_bytes(before)

    @pytest.mark.parametrize("make", [of_an_earlier_run, of_another_database, of_a_former_file, after_a_fold])
    def test_a_log_that_is_not_the_file_s_is_refused_and_put_aside_by_recovery(
        self, path: Path, make: Callable[[object, Path, Path], None]
    ) -> None:
        left = path.with_name("left.db")
        make(self, path, left)
        file, log = left.read_bytes(), sessions.log_of(left).read_bytes()
        with pytest.raises(StoreUnusable, match="do not belong together"):
            Database(left)
        assert (left.read_bytes(), sessions.log_of(left).read_bytes()) == (file, log)

        sessions.recover(left)
        assert left.with_name("left.db-wal.old").read_bytes() == log
        Database(left).close()

    def test_a_closed_file_needs_no_log_and_has_a_number_of_its_own(self, path: Path) -> None:
        numbers = []
        for _ in range(3):
            with closing(Database(path)) as store:
                put(store, "a")
            session = sessions.session_in_file(path)
            assert session is not None and not session.is_open and not sessions.log_of(path).exists()
            numbers.append(session.number)

        assert numbers == sorted(set(numbers))
        assert promises_in(path) == {"a"}

    def test_what_is_no_database_or_in_use_is_not_recovered(self, path: Path) -> None:
        path.write_text("no database\n" * 1_000)
        with pytest.raises(StoreFailed):
            sessions.recover(path)
        path.unlink()
        with closing(Database(path)), pytest.raises(PathTaken):
            sessions.recover(path)
