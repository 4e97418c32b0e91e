"""A database that is removed while in use, or that has lost its log since: this is reported, and work stops."""

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from unit.rows import changes, promise, transaction
from unit.store.stores import crash, promises_in

from resonate_server.store.errors import StoreLost
from resonate_server.store.sqlite import Database, StoreUnusable, sessions
from resonate_server.store.sqlite.clock import ClockMark


def put(store: Database, id: str) -> None:
    with transaction(store):
        store.put_clock_mark(ClockMark(1, 1, ""))
        store.write(changes(promise(id)))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
@pytest.mark.parametrize("harm", [Path.unlink, move_away, replace, truncate])
def test_nothing_is_acknowledged_once_the_file_was_replaced(
    path: Path, store: Database, name: str, harm: Callable[[Path], None]
) -> None:
    put(store, "before")
    harm(path.with_name(name))
    with pytest.raises(StoreLost, match=f"{name} was (removed|replaced|cut short) while it was in use"):
        put(store, "after")
    with pytest.raises(StoreLost):
        store.check()


def test_a_second_server_does_not_open_what_stands_in_the_place_of_a_file_in_use(path: Path, store: Database) -> None:
    put(store, "a")
    path.unlink()
    with pytest.raises(StoreUnusable, match=rf"in use by another server \(pid {os.getpid()}\)"):
        Database(path)
    assert not path.exists()


@pytest.mark.parametrize("harm", [Path.unlink, truncate])
def test_a_crashed_file_that_has_lost_its_log_is_refused_until_it_is_recovered(
    path: Path, harm: Callable[[Path], None]
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


def test_a_log_of_an_earlier_run_is_refused_and_put_aside_by_recovery(path: Path) -> None:
    with closing(Database(path)) as store:
        put(store, "a")
        old_log = sessions.log_of(path).read_bytes()
    with closing(Database(path)) as store:
        put(store, "b")
        left = crash(path)
    sessions.log_of(left).write_bytes(old_log)
    before = left.read_bytes()
    with pytest.raises(StoreUnusable, match="do not belong together"):
        Database(left)
    assert left.read_bytes() == before

    sessions.recover(left)
    assert left.with_name("left.db-wal.old").read_bytes() == old_log
    Database(left).close()


def test_a_file_that_was_closed_needs_no_log(path: Path) -> None:
    with closing(Database(path)) as store:
        put(store, "a")
    assert not sessions.log_of(path).exists()
    assert promises_in(path) == {"a"}
