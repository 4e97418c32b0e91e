"""The file of the SQLite store: what survives, and which files are refused."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from unit.rows import LATER, NOW, changes, promise, snapshot, task, transaction, write
from unit.store.stores import crash, execute, promises_in, seen

from resonate_server.kernel.model import Footprint, PutCallback, PutListener
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import PromiseState, TaskState, Value
from resonate_server.protocol.requests import PromiseSearch
from resonate_server.store.errors import StoreFailed
from resonate_server.store.sqlite import Database, StoreUnusable


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


def test_a_finished_transaction_is_there_without_closing(path: Path, store: Database) -> None:
    """As after a crash: the files are copied as they are and opened elsewhere."""
    write(store, promise("p"))
    assert promises_in(crash(path)) == {"p"}


def test_missing_folders_are_made(tmp_path: Path) -> None:
    Database(tmp_path / "a" / "b" / "state.db").close()
    assert (tmp_path / "a" / "b" / "state.db").exists()


def test_a_second_opener_is_refused(path: Path, store: Database) -> None:
    """The lock is held even between transactions."""
    write(store, promise("p"))
    with pytest.raises(StoreUnusable):
        Database(path)


def another_version(path: Path) -> None:
    Database(path).close()
    execute(path, "PRAGMA user_version = 999")


def not_a_database(path: Path) -> None:
    path.write_text("no database, but a text that somebody may need\n" * 100)


def cut_off(path: Path) -> None:
    Database(path).close()
    path.write_bytes(path.read_bytes()[:5_000])


def of_another_program(path: Path) -> None:
    execute(path, "CREATE TABLE promises (kept TEXT)")


@pytest.mark.parametrize("make", [another_version, not_a_database, cut_off, Path.mkdir, of_another_program])
def test_a_file_is_refused_with_its_name(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(StoreUnusable, match=r"state\.db"):
        Database(path)


@pytest.mark.parametrize("make", [another_version, not_a_database, of_another_program])
def test_a_refused_file_keeps_its_content(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    before = path.read_bytes()
    with suppress(StoreUnusable):
        Database(path)
    assert path.read_bytes() == before


def test_a_place_where_no_file_can_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable):
        Database(tmp_path / "file" / "state.db")


class TestFullDisk:
    """A write that finds no space fails, and nothing is half done."""

    BIG = Value(data="x" * 1_000_000)

    @pytest.fixture(autouse=True)
    def _nearly_full(self, store: Database) -> None:
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages + 20}")

    def test_the_next_transaction_works(self, store: Database) -> None:
        with pytest.raises(StoreFailed, match="full"), transaction(store):
            store.write(changes(promise("big", param=self.BIG)))
        write(store, promise("small"))
        with transaction(store):
            assert set(store.load(Footprint(ids=("big", "small"))).promises) == {"small"}

    def test_nothing_of_the_transaction_happens(self, store: Database) -> None:
        """Even if the caller continues after a failed read in its middle: SQLite may have rolled back by itself."""
        store.write(changes(promise("before")))
        store.write(changes(promise("big", param=self.BIG)))
        with suppress(StoreFailed):
            store.search(PromiseSearch(), NOW)
        store.write(changes(promise("after")))
        with pytest.raises(StoreFailed):
            store.flush()
        store.rollback()

        with transaction(store):
            assert store.load(Footprint(ids=("before", "big", "after"))).promises == {}


def test_a_file_that_lacks_a_column_is_refused_though_it_claims_our_version(path: Path) -> None:
    """The schema was changed without raising its version."""
    Database(path).close()
    execute(path, "ALTER TABLE tasks DROP COLUMN lost_at")
    with pytest.raises(StoreUnusable, match="another version"):
        Database(path)
