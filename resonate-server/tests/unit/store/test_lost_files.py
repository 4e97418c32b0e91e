"""A database that is removed while in use, or that has lost its log since: this is reported, and work stops."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.rows import transaction

from resonate_server.kernel.model import Changes, Footprint
from resonate_server.protocol.records import EMPTY, Promise, PromiseState
from resonate_server.store.errors import StoreLost
from resonate_server.store.sqlite import Database, StoreUnusable, sessions
from resonate_server.store.sqlite.clock import ClockMark

FAR = 4_102_444_800_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def put(store: Database, id: str) -> None:
    promise = Promise(
        id=id, state=PromiseState.PENDING, param=EMPTY, value=EMPTY, tags={}, timeout_at=FAR, created_at=1
    )
    with transaction(store):
        store.put_clock_mark(ClockMark(1, 1, ""))
        store.write(Changes(promises={id: promise}))


def has(store: Database, id: str) -> bool:
    return id in store.load(Footprint(ids=(id,))).promises


def crash(path: Path, left: Path) -> None:
    """Copy to ``left`` what a SIGKILL would leave on disk now."""
    for name in (path.name, path.name + "-wal"):
        shutil.copy(path.with_name(name), left.with_name(name.replace(path.name, left.name)))


def remove(path: Path) -> None:
    path.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.rename(path)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
@pytest.mark.parametrize("harm", [remove, move_away, replace, truncate])
def test_nothing_is_acknowledged_once_the_file_was_replaced(
    path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    store = Database(path)
    put(store, "before")
    harm(path.with_name(name))
    with pytest.raises(StoreLost, match=f"{name} was (removed|replaced|cut short) while it was in use"):
        put(store, "after")
    with pytest.raises(StoreLost):
        store.check()


def test_a_second_server_does_not_open_what_stands_in_the_place_of_a_file_in_use(path: Path) -> None:
    store = Database(path)
    put(store, "a")
    path.unlink()
    with pytest.raises(StoreUnusable, match=rf"in use by another server \(pid {os.getpid()}\)"):
        Database(path)
    assert not path.exists()
    store.close()


def test_a_crash_is_no_loss(path: Path) -> None:
    store = Database(path)
    put(store, "a")
    left = path.with_name("left.db")
    crash(path, left)
    again = Database(left)
    assert has(again, "a")
    again.close()
    store.close()


@pytest.mark.parametrize("harm", [remove, truncate])
def test_a_crashed_file_that_has_lost_its_log_is_refused_until_it_is_recovered(
    path: Path, harm: Callable[[Path], None]
) -> None:
    store = Database(path)
    put(store, "a")
    left = path.with_name("left.db")
    crash(path, left)
    store.close()
    harm(sessions.log_of(left))
    before = left.read_bytes()
    with pytest.raises(StoreUnusable, match=f"resonate-server recover --db {left}"):
        Database(left)
    assert left.read_bytes() == before

    sessions.recover(left)
    Database(left).close()


def test_a_log_of_an_earlier_run_is_refused_and_put_aside_by_recovery(path: Path) -> None:
    store = Database(path)
    put(store, "a")
    old_log = sessions.log_of(path).read_bytes()
    store.close()
    store = Database(path)
    put(store, "b")
    left = path.with_name("left.db")
    crash(path, left)
    store.close()
    sessions.log_of(left).write_bytes(old_log)
    before = left.read_bytes()
    with pytest.raises(StoreUnusable, match="do not belong together"):
        Database(left)
    assert left.read_bytes() == before

    sessions.recover(left)
    assert left.with_name("left.db-wal.old").read_bytes() == old_log
    Database(left).close()


def test_a_file_that_was_closed_needs_no_log(path: Path) -> None:
    store = Database(path)
    put(store, "a")
    store.close()
    assert not sessions.log_of(path).exists()
    store = Database(path)
    assert has(store, "a")
    store.close()
