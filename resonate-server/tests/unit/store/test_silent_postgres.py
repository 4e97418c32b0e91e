"""A database that stops answering but keeps its connections open: nothing waits for it for ever, and work that hangs on
one connection continues on another."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from unit.driver import CORR_ID
from unit.store.servers import LOOKING, PATIENCE_S, RULES, Freezer, Site, acquire, call, create, until

from resonate_server import engine as engines
from resonate_server.engine import Engine
from resonate_server.metrics import Metrics
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import PromiseSearch, TaskRelease
from resonate_server.store.errors import ReadFailed
from resonate_server.store.postgres import PostgresStore, driver, postgres_store, sql
from resonate_server.store.postgres.driver import Source, Transaction
from resonate_server.store.postgres.plans import Found
from resonate_server.store.postgres.postgres_view import PostgresView
from resonate_server.store.view import View

SHORT_S = 1.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ANSWER_S", SHORT_S)


@pytest.fixture
async def store(site: Site) -> PostgresStore:
    return (await site.store())[0]


@pytest.mark.parametrize("way", ["read", "browse"])
async def test_a_read_fails_in_time_and_the_next_one_has_another_connection(
    site: Site, freezer: Freezer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """However often it happens, no connection and no thread is lost."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", SHORT_S)
    monkeypatch.setattr(postgres_store, "MOST_PATIENT_S", SHORT_S)
    store, _ = await site.store()

    def look(view: Any) -> Any:
        assert isinstance(view, PostgresView)
        freezer.freeze(view._connection.info.backend_pid)
        return view.count_tasks()

    while len(freezer.frozen) <= LOOKING:
        with pytest.raises(ReadFailed, match="the database"):
            async with asyncio.timeout(PATIENCE_S):
                await getattr(store, way)(look)

    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    assert await store.browse(lambda view: view.count_tasks()) == Counter()
    assert (await call(store, create("p"))).status == 200


async def test_a_read_that_stands_still_in_its_transaction_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the whole server is frozen: the database ends the transaction."""
    monkeypatch.setitem(driver.OPTIONS, "idle_in_transaction_session_timeout", "100ms")
    store, _ = await site.store()

    def look(view: View) -> Counter[TaskState]:
        time.sleep(0.5)
        return view.count_tasks()

    with pytest.raises(ReadFailed, match="idle-in-transaction"):
        await store.browse(look)


async def test_a_server_that_stops_does_not_wait_for_a_long_query(store: PostgresStore) -> None:
    ended = []

    def look(view: Any) -> None:
        view._query("SELECT pg_sleep(5)")
        ended.append(view)

    looking = asyncio.ensure_future(store.read(look))
    await asyncio.sleep(0.5)
    await store.close()

    assert looking.done()
    assert ended == []


async def test_slow_work_has_twice_the_time_at_each_attempt(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is answered in time: no one else would ask for it again."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.25)
    store, _ = site.start()
    await until(lambda: not store.sharing.trouble)

    def look(view: Any) -> Any:
        return view._query("SELECT 'done' FROM pg_sleep(1)")

    refused = 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(ReadFailed):
                assert await store.read(look) == [("done",)]
                break
            refused += 1
    assert refused >= 2


async def test_a_decision_is_repeated_on_another_connection(
    store: PostgresStore, freezer: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    assert (await call(store, create("before"))).status == 200
    assert store._connection is not None
    freezer.freeze(store._connection.info.backend_pid)

    assert (await call(store, create("after"))).status == 200


async def test_a_commit_found_not_done_is_not_done_later(
    store: PostgresStore, freezer: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it has arrived and stays unread until the process resumes."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    assert (await call(store, create("t"))).status == 200
    assert (await call(store, acquire("t", 0))).status == 200
    commit = Transaction.commit

    async def freezing(self: Transaction, *asked: Any) -> Found:
        monkeypatch.setattr(Transaction, "commit", commit)
        freezer.freeze(self.backend)
        return await commit(self, *asked)

    monkeypatch.setattr(Transaction, "commit", freezing)
    released = asyncio.ensure_future(call(store, TaskRelease(id="t", version=1)))
    await until(
        lambda: freezer.frozen and store._connection is not None and store._connection.backend not in freezer.frozen
    )
    freezer.thaw()

    assert (await released).status == 200


async def test_deleting_may_take_longer_than_the_database_may_be_silent_and_holds_up_nothing(site: Site) -> None:
    store, _ = await site.store()
    for number in range(4):
        assert (await call(store, create(f"t{number}"))).status == 200
    assert (await call(store, create("other"))).status == 200
    await site.execute("UPDATE promises SET state = 'resolved', settled_at = 1, armed = false WHERE id <> 'other'")
    await site.execute(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql"
        f" AS 'BEGIN PERFORM pg_sleep({SHORT_S}); RETURN OLD; END'"
    )
    await site.execute("CREATE TRIGGER slow BEFORE DELETE ON promises FOR EACH ROW EXECUTE FUNCTION sleep()")

    async def drop() -> int:
        return sum([tasks async for tasks in store.drop_settled_trees(2)])

    dropping = asyncio.ensure_future(drop())
    await asyncio.sleep(SHORT_S)
    assert (await call(store, acquire("other", 0))).status == 200
    assert not dropping.done()
    assert await dropping == 4


async def test_a_search_is_refused_in_time(
    store: PostgresStore, freezer: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.engine, "PATIENCE_S", 0.2)
    monkeypatch.setattr(driver, "ANSWER_S", PATIENCE_S)
    assert (await call(store, create("before"))).status == 200
    assert store._connection is not None
    store._connection.patience_s = PATIENCE_S
    freezer.freeze(store._connection.info.backend_pid)
    engine = Engine(store, RULES, Metrics(), "")
    search = CheckedRequest(corr_id=CORR_ID, request=PromiseSearch(limit=1))

    async with asyncio.timeout(PATIENCE_S):
        assert (await engine.submit(search)).status == 503


async def test_a_server_whose_sign_of_life_hangs_repeats_it_and_listens_on_another_connection(
    site: Site, freezer: Freezer
) -> None:
    (store, notes), (other, _) = await site.connected(2)
    where = "SELECT backend FROM servers WHERE id = %s", store.sharing.id
    [(backend,)] = freezer.ask(*where)
    freezer.freeze(backend)
    missed = notes.missed

    await until(lambda: freezer.ask(*where) not in ([(backend,)], []), every=0.2)
    await until(lambda: notes.missed > missed)
    other.sharing.ring(b'"news"')
    await until(lambda: '["news"]' in notes.rung)
    assert (await call(store, create("p"))).status == 200


async def test_a_server_starts_even_if_its_first_query_hangs(site: Site) -> None:
    """It waits for one that creates the schema and hangs. Its attempts leave no connections that go on waiting."""
    async with await Source(site.url).connect_async() as other:
        await other.execute("SELECT pg_advisory_lock(%s)", (sql.SCHEMA_LOCK,))
        store, _ = site.start()
        await until(lambda: "does not answer" in store.sharing.trouble)
        await asyncio.sleep(5 * SHORT_S)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
        [(count,)] = await site.execute(waiting)
        assert count <= 2

    async with asyncio.timeout(PATIENCE_S), store.beginning():
        pass
    assert (await call(store, create("p"))).status == 200
