"""The whole state copied from one store to another: all of it or nothing."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from unit.postgres import PostgresDatabase, make_schema
from unit.rows import LATER, NOW, changes, promise, schedule, task, transaction
from unit.store import stores

from resonate_server.config import Postgres, Sqlite, Storage
from resonate_server.kernel.model import PutCallback, PutListener, PutSpreading, Spreading
from resonate_server.moving import move
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import PromiseState, TaskState, Value
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import Source, name_of
from resonate_server.store.sqlite import Database, statements
from resonate_server.store.sqlite.clock import MARK_MS
from resonate_server.store.sqlite.file import open_file
from resonate_server.store.sqlite.sessions import fold
from resonate_server.store.whole import CannotCopy

ODD = "\x00 \t\n\\N é \U0001f600 \ue000"
LARGE = Value(headers={"a": ODD}, data="x\\" * 100_000)
LINEAGE = {"resonate:origin": "root", "resonate:branch": "root", "resonate:parent": "root"}
EVERYTHING = (
    promise("root", tags={"resonate:target": "poll://any@workers", "resonate:origin": "root", ODD: ODD}),
    promise("root.a", tags={"resonate:external": "true", **LINEAGE}, param=LARGE),
    promise("settled", PromiseState.REJECTED, value=LARGE, param=Value(data="")),
    promise(ODD.replace("\x00", "")),
    replace(task("root", TaskState.ACQUIRED, pid="pid-1", timer_at=LATER), claim=ODD, ttl=5, version=3, reason=ODD),
    task("root.a", queued=True, timer_at=1),
    task("settled", TaskState.FULFILLED, target="http://127.0.0.1:1/"),
    PutCallback(awaited="root.a", awaiter="root"),
    PutListener(awaited="root.a", address="poll://uni@callers/c1"),
    PutSpreading(spreading=Spreading(promise_id="settled", after="q"), turn_at=NOW),
    replace(schedule("often"), promise_param=LARGE, last_run_at=NOW),
    schedule("once", tags={ODD: ODD}),
)
OWED = ["poll://uni@callers/c1", "poll://any@callers", "http://127.0.0.1:1/"]


def fill(store: Any) -> dict[str, Any]:
    """Fill the store and return everything visible in it."""
    with transaction(store):
        store.write(changes(*EVERYTHING))
        for number, address in enumerate(OWED):
            store.put_unblock(Unblock(promise=EVERYTHING[2], address=address), NOW + number)
    return seen(store)


def seen(store: Any) -> dict[str, Any]:
    """Return everything visible in the store; of the places of unblocks, only the order counts."""
    everything = stores.seen(store)
    everything["unblocks"] = {who: [each.unblock for each in owed] for who, owed in everything["unblocks"].items()}
    return everything


@pytest.fixture
def file(path: Path) -> Storage:
    return Storage(sqlite=Sqlite(path=path))


@pytest.fixture
def database(own_postgres_url: str) -> Storage:
    return Storage(type="postgres", postgres=Postgres(url=own_postgres_url))


@contextmanager
def opened(location: Storage) -> Iterator[Any]:
    if location.is_postgres:
        make_schema(location.postgres.url)
    store = PostgresDatabase(location.postgres.url) if location.is_postgres else Database(location.sqlite.path)
    with closing(store):
        yield store


@pytest.fixture
def full_file(file: Storage) -> Storage:
    with opened(file) as store:
        fill(store)
    return file


def is_refused(source: Storage, target: Storage, why: str) -> bool:
    """Whether moving fails and leaves the target without a promise."""
    with pytest.raises(CannotCopy, match=why):
        move(source, target)
    with opened(target) as store, transaction(store):
        return not store.snapshot().promises


@pytest.mark.parametrize(("one", "other"), [("file", "database"), ("database", "file")])
def test_everything_goes_from_one_store_to_the_other(one: str, other: str, request: pytest.FixtureRequest) -> None:
    source, target = request.getfixturevalue(one), request.getfixturevalue(other)
    with opened(source) as store:
        before = fill(store)

    counts = move(source, target)

    assert counts == {
        "promises": 4,
        "tasks": 3,
        "callbacks": 1,
        "listeners": 1,
        "spreading": 1,
        "unblocks": 3,
        "schedules": 2,
    }
    with opened(target) as store:
        assert seen(store) == before
    with opened(source) as store:
        assert seen(store) == before


def test_a_file_migrated_from_a_former_format_has_its_payloads_as_text(file: Storage, database: Storage) -> None:
    with opened(file) as store:
        before = fill(store)
    with closing(open_file(file.sqlite.path)) as db:
        for table in ("params", "results", "schedule_params"):
            db.execute(f"UPDATE {table} SET data = CAST(data AS TEXT)")
        fold(db)

    move(file, database)

    with opened(database) as store:
        assert seen(store) == before


def test_time_continues_where_it_stood(path: Path, file: Storage, database: Storage) -> None:
    ahead = 4_000_000_000_000
    with opened(file):
        pass
    with closing(open_file(path)) as db:
        db.execute(statements.PUT_CLOCK_MARK, (ahead, 0, ""))
        fold(db)

    move(file, database)
    back = path.with_name("back.db")
    move(database, Storage(sqlite=Sqlite(path=back)))

    with Source(database.postgres.url).connect() as connection:
        assert connection.execute(sql.GET_TIME.encode()).fetchall() == [(ahead + MARK_MS,)]
    with closing(open_file(back)) as db:
        assert db.execute(statements.GET_CLOCK_MARK).fetchone()[0] == ahead + MARK_MS
        fold(db)


def test_a_target_that_is_not_empty_stays_as_it_is(full_file: Storage, database: Storage) -> None:
    with opened(database) as store, transaction(store):
        store.write(changes(schedule("of somebody else")))

    assert is_refused(full_file, database, "not empty")


def test_a_database_in_use_by_a_server_is_left_alone(full_file: Storage, database: Storage) -> None:
    make_schema(database.postgres.url)
    with Source(database.postgres.url, name_of(1)).connect() as server:
        server.execute(sql.JOIN.encode(), (1, 1, b"[]"))
        assert is_refused(full_file, database, "a server is using the database")


def test_a_file_that_does_not_exist_or_is_empty_is_no_state(path: Path, file: Storage, database: Storage) -> None:
    assert is_refused(file, database, "does not exist")
    path.touch()
    assert is_refused(file, database, "there is no database in it")
    assert path.stat().st_size == 0


def test_data_that_the_target_cannot_hold_leaves_it_empty(file: Storage, database: Storage) -> None:
    """For example in the last table, after all others were copied."""
    with opened(file) as store, transaction(store):
        incompressible = "".join(chr(0x4E00 + 7 * number % 20_000) for number in range(3_000))
        store.write(changes(*EVERYTHING, schedule(incompressible)))
    assert is_refused(file, database, "longer than PostgreSQL can index")
