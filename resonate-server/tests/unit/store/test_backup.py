"""Copies of the database: complete, in one file, and they replace another database entirely or not at all."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from unit.rows import changes, promise, task, write
from unit.store.servers import until
from unit.store.stores import crash, execute, promises_in, seen

from resonate_server.protocol.records import Value
from resonate_server.store.sqlite import Database, SQLiteStore, statements
from resonate_server.store.sqlite.backup import (
    PAGES_PER_STEP,
    BackupUnusable,
    Interrupted,
    restore_backup,
)
from resonate_server.store.sqlite.lock import PathLock, PathTaken

SIDE_FILES = ("-wal", "-shm", "-journal")

KILLED = """
import os, signal, sys
from pathlib import Path
from resonate_server.store.sqlite.backup import restore_backup

left = int(sys.argv[3])

def look(event, _):
    global left
    if event in ("os.remove", "os.rename"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
restore_backup(Path(sys.argv[1]), Path(sys.argv[2]), replace=True)
"""
"""A restore that is killed before the given one of its changes to the names of files."""


@pytest.fixture
def copy(path: Path) -> Path:
    """A copy of a database with one promise, now closed."""
    with closing(Database(path)) as store:
        write(store, promise("p"))
        made = store.backup()
    assert made is not None
    return made.rename(path.with_name("copy"))


def beside(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


class TestCopy:
    def test_a_copy_holds_everything_that_is_committed(self, path: Path) -> None:
        with closing(Database(path)) as store:
            write(store, promise("p", param=Value(data="x")), task("p", queued=True, timer_at=1))
            before = seen(store)
            made = store.backup()

        assert made == path.with_name("state.db-copying")
        with closing(Database(made)) as again:
            assert seen(again) == before

    def test_a_copy_is_one_file_which_counts_as_closed(self, copy: Path) -> None:
        assert not beside(copy) & {copy.name + suffix for suffix in SIDE_FILES}
        assert execute(copy, "PRAGMA journal_mode") == [("delete",)]
        assert execute(copy, "SELECT is_open FROM server") == [(0,)]

    def test_a_copy_is_abandoned_without_a_trace_when_the_store_closes(self, path: Path) -> None:
        store = Database(path)
        store.close()
        with pytest.raises((Interrupted, sqlite3.Error)):
            store.backup()
        assert "state.db-copying" not in beside(path)

    @pytest.mark.parametrize("steps", [3, 11])
    def test_a_copy_can_be_abandoned_between_its_steps_and_at_its_end(
        self, path: Path, store: Database, steps: int
    ) -> None:
        write(store, promise("p", param=Value(data="x" * 10 * PAGES_PER_STEP * 2_048)))
        asked = count(1)
        with pytest.raises(Interrupted):
            store.backup(lambda: next(asked) >= steps)
        assert "state.db-copying" not in beside(path)

    async def test_a_caller_that_gives_up_leaves_nothing_on_the_disk(
        self, path: Path, store: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resonate_server.store.sqlite.backup.PAGES_PER_STEP", 1)
        write(store, promise("p", param=Value(data="x" * 30_000_000)))
        asked = asyncio.create_task(SQLiteStore(store).backup())
        await until(lambda: len(beside(path)) > 3)
        asked.cancel()
        await until(lambda: len(beside(path)) == 3)

    def test_what_a_killed_process_left_is_removed_by_the_next_start(self, path: Path) -> None:
        for suffix in ("-copying", "-restoring"):
            path.with_name(path.name + suffix).touch()
        Database(path).close()
        assert beside(path) == {"state.db", "state.db.lock"}

    def test_a_backup_kept_beside_the_database_is_left_alone(self, path: Path, store: Database) -> None:
        kept = path.with_name("state.db.backup")
        kept.write_text("the earlier one")
        store.backup()
        assert kept.read_text() == "the earlier one"


def folder(copy: Path) -> None:
    copy.unlink()
    copy.mkdir()


def of_another_program(copy: Path) -> None:
    copy.unlink()
    execute(copy, "CREATE TABLE notes (text)", "PRAGMA user_version = 1")


def damaged(copy: Path) -> None:
    content = bytearray(copy.read_bytes())
    content[8_192:12_288] = b"\xff" * 4_096
    copy.write_bytes(content)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "does not exist"),
    "a folder": (folder, "does not exist"),
    "a text": (lambda copy: copy.write_text("no database\n" * 1_000), "is not a resonate-server database: "),
    "empty": (lambda copy: copy.write_bytes(b""), "is not a resonate-server database$"),
    "of another program": (of_another_program, "was made by another version or another program$"),
    "without a version": (lambda copy: execute(copy, "PRAGMA user_version = 0"), "was made by another version or"),
    "newer": (
        lambda copy: execute(copy, f"PRAGMA user_version = {statements.SCHEMA_VERSION + 1}"),
        "was written by a newer server",
    ),
    "of a former format": (lambda copy: execute(copy, "PRAGMA user_version = 2"), "was made by another version or"),
    "of another schema": (
        lambda copy: execute(copy, "ALTER TABLE tasks DROP COLUMN lost_at"),
        "was made by another version or another program$",
    ),
    "not closed": (
        lambda copy: execute(copy, "UPDATE server SET is_open = 1"),
        "was not closed, and is not whole without its log",
    ),
    "damaged": (damaged, "is damaged: |is not a resonate-server database: "),
}


@pytest.mark.parametrize(("harm", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_backup_is_refused_with_name_and_reason_and_changes_nothing(
    path: Path, copy: Path, harm: Callable[[Path], object], reason: str
) -> None:
    harm(copy)
    before = path.read_bytes()
    with pytest.raises(BackupUnusable, match=f"copy {reason}"):
        restore_backup(copy, path, replace=True)
    assert path.read_bytes() == before
    assert "state.db-restoring" not in beside(path)


class TestRestore:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        """A database with another promise, and the files that a crash would leave beside it."""
        path = tmp_path / "other.db"
        with closing(Database(path)) as store:
            write(store, promise("q"))
        for suffix in SIDE_FILES:
            path.with_name(path.name + suffix).write_text("of the old one")
        return path

    def test_a_restored_copy_replaces_what_is_there(self, copy: Path, other: Path) -> None:
        restore_backup(copy, other, replace=True)
        assert execute(other, "SELECT id FROM promises") == [("p",)]
        assert not beside(other) & {other.name + suffix for suffix in (*SIDE_FILES, "-restoring")}
        assert copy.exists()

    def test_a_restore_that_is_killed_leaves_all_of_the_old_database_or_of_the_new_one(
        self, path: Path, copy: Path
    ) -> None:
        with closing(Database(path)) as store:
            write(store, promise("q"))
            for changes in count(1):
                left = crash(path)
                done = subprocess.run([sys.executable, "-c", KILLED, copy, left, str(changes)], check=False, timeout=60)
                assert promises_in(left) in ({"p", "q"}, {"p"})
                if done.returncode == 0:
                    break
                assert done.returncode == -signal.SIGKILL
        assert changes > 4

    def test_an_existing_file_is_restored_over_only_if_asked_to(self, copy: Path, other: Path) -> None:
        before = other.read_bytes()
        with pytest.raises(FileExistsError):
            restore_backup(copy, other, replace=False)
        assert other.read_bytes() == before
        assert beside(other) >= {other.name + suffix for suffix in SIDE_FILES}

    @pytest.mark.parametrize("replace", [True, False])
    def test_a_copy_is_restored_where_nothing_was(self, tmp_path: Path, copy: Path, replace: bool) -> None:
        target = tmp_path / "a" / "b" / "new.db"
        restore_backup(copy, target, replace)
        assert promises_in(target) == {"p"}

    @pytest.mark.parametrize("opened", ["state.db", "link.db"])
    def test_a_database_in_use_is_left_alone_whatever_it_is_called(self, copy: Path, path: Path, opened: str) -> None:
        link = path.with_name("link.db")
        link.symlink_to(path)
        with closing(Database(path.with_name(opened))) as store:
            for name in (link, path):
                with pytest.raises(PathTaken):
                    restore_backup(copy, name, replace=True)
            write(store, promise("later"))


class TestLock:
    def test_a_lock_names_its_holder_and_ends_with_its_block(self, path: Path) -> None:
        with PathLock(path), pytest.raises(PathTaken, match=r"state\.db is in use by another server \(pid \d+\)$"):
            PathLock(path)
        PathLock(path).release()

    def test_a_holder_without_a_name_still_holds_the_lock(self, path: Path) -> None:
        with PathLock(path):
            path.with_name("state.db.lock").write_text("")
            with pytest.raises(PathTaken, match=r"in use by another server$"):
                PathLock(path)

    def test_a_lock_needs_no_room_on_the_disk(self, path: Path) -> None:
        path.with_name("state.db.lock").symlink_to("/dev/full")
        with PathLock(path), pytest.raises(PathTaken):
            PathLock(path)

    def test_text_of_an_earlier_holder_is_erased(self, path: Path) -> None:
        lock = path.with_name("state.db.lock")
        lock.write_text("1234567890\n")
        with PathLock(path):
            assert lock.read_text() == f"{os.getpid()}\n"


def test_a_copy_waits_for_the_end_of_a_transaction_and_has_nothing_that_was_undone(store: Database) -> None:
    store.write(changes(promise("p")))
    with ThreadPoolExecutor() as pool:
        copying = pool.submit(store.backup)
        store.rollback()
        made = copying.result()
    assert made is not None and execute(made, "SELECT id FROM promises") == []
