"""A database that stops answering but keeps its connections open: nothing waits for it for ever, and work that hangs on
one connection continues on another."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from unit.driver import CORR_ID
from unit.store.servers import LOOKING, PATIENCE_S, RULES, Freezer, Server, Site, acquire, create, until

from resonate_server import engine as engines
from resonate_server.engine import Engine
from resonate_server.metrics import Metrics
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import PromiseSearch, TaskRelease
from resonate_server.store.errors import ReadFailed
from resonate_server.store.postgres import driver, postgres_store, sql
from resonate_server.store.postgres.driver import Source, Transaction
from resonate_server.store.postgres.plans import Found
from resonate_server.store.postgres.postgres_view import PostgresView
from resonate_server.store.view import View

SHORT_S = 1.0


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ANSWER_S", SHORT_S)


@pytest.mark.parametrize("way", ["read", "browse"])
async def test_a_read_fails_in_time_and_the_next_one_has_another_connection(
    site: Site, freezer: Freezer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """However often it happens, no connection and no thread is lost."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", SHORT_S)
    monkeypatch.setattr(postgres_store, "MOST_PATIENT_S", SHORT_S)
    server = await site.server()

    def look(view: Any) -> Any:
        assert isinstance(view, PostgresView)
        freezer.freeze(view._connection.info.backend_pid)
        return view.count_tasks()

    while len(freezer.frozen) <= LOOKING:
        with pytest.raises(ReadFailed, match="the database"):
            async with asyncio.timeout(PATIENCE_S):
                await getattr(server.store, way)(look)

    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    assert await server.store.browse(View.count_tasks) == Counter()
    assert (await server.call(create("p"))).status == 200


async def test_a_read_that_stands_still_in_its_transaction_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the whole server is frozen: the database ends the transaction."""
    monkeypatch.setitem(driver.OPTIONS, "idle_in_transaction_session_timeout", "100ms")
    server = await site.server()

    def look(view: View) -> Counter[TaskState]:
        time.sleep(0.5)
        return view.count_tasks()

    with pytest.raises(ReadFailed, match="idle-in-transaction"):
        await server.store.browse(look)


async def test_a_server_that_stops_does_not_wait_for_a_long_query(server: Server) -> None:
    ended = []

    def look(view: Any) -> None:
        view._query("SELECT pg_sleep(5)")
        ended.append(view)

    looking = asyncio.ensure_future(server.store.read(look))
    await asyncio.sleep(0.5)
    await server.store.close()

    assert looking.done()
    assert ended == []


async def test_slow_work_has_twice_the_time_at_each_attempt(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is answered in time: no one else would ask for it again."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.25)
    server = site.start()
    await until(lambda: not server.sharing.trouble)

    def look(view: Any) -> Any:
        return view._query("SELECT 'done' FROM pg_sleep(1)")

    refused = 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(ReadFailed):
                assert await server.store.read(look) == [("done",)]
                break
            refused += 1
    assert refused >= 2


async def test_a_decision_is_repeated_on_another_connection(
    server: Server, freezer: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    assert (await server.call(create("before"))).status == 200
    freezer.freeze(server.backend)

    assert (await server.call(create("after"))).status == 200


async def test_a_commit_found_not_done_is_not_done_later(
    server: Server, freezer: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it has arrived and stays unread until the process resumes."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    await server.at_once(create("t"), acquire("t", 0))
    commit = Transaction.commit

    async def freezing(self: Transaction, *asked: Any) -> Found:
        monkeypatch.setattr(Transaction, "commit", commit)
        freezer.freeze(self.backend)
        return await commit(self, *asked)

    monkeypatch.setattr(Transaction, "commit", freezing)
    released = asyncio.ensure_future(server.call(TaskRelease(id="t", version=1)))
    await until(lambda: freezer.frozen and server.backend not in freezer.frozen)
    freezer.thaw()

    assert (await released).status == 200


async def test_deleting_may_take_longer_than_the_database_may_be_silent_and_holds_up_nothing(
    site: Site, server: Server
) -> None:
    await server.at_once(*[create(id) for id in ("t0", "t1", "t2", "t3", "other")])
    await site.execute("UPDATE promises SET state = 'resolved', settled_at = 1, armed = false WHERE id <> 'other'")
    await site.execute(
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql"
        f" AS 'BEGIN PERFORM pg_sleep({SHORT_S}); RETURN OLD; END'"
    )
    await site.execute("CREATE TRIGGER slow BEFORE DELETE ON promises FOR EACH ROW EXECUTE FUNCTION sleep()")

    async def drop() -> int:
        return sum([tasks async for tasks in server.store.drop_settled_trees(2)])

    dropping = asyncio.ensure_future(drop())
    await asyncio.sleep(SHORT_S)
    assert (await server.call(acquire("other", 0))).status == 200
    assert not dropping.done()
    assert await dropping == 4


async def test_a_search_is_refused_in_time(server: Server, freezer: Freezer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.engine, "PATIENCE_S", 0.2)
    monkeypatch.setattr(driver, "ANSWER_S", PATIENCE_S)
    assert (await server.call(create("before"))).status == 200
    assert server.connection is not None
    server.connection.patience_s = PATIENCE_S
    freezer.freeze(server.backend)
    engine = Engine(server.store, RULES, Metrics(), "")
    search = CheckedRequest(corr_id=CORR_ID, request=PromiseSearch(limit=1))

    async with asyncio.timeout(PATIENCE_S):
        assert (await engine.submit(search)).status == 503


async def test_a_server_whose_sign_of_life_hangs_repeats_it_and_listens_on_another_connection(
    site: Site, freezer: Freezer
) -> None:
    server, other = await site.connected(2)
    where = "SELECT backend FROM servers WHERE id = %s", server.sharing.id
    [(backend,)] = freezer.ask(*where)
    freezer.freeze(backend)
    missed = server.notes.missed

    await until(lambda: freezer.ask(*where) not in ([(backend,)], []), every=0.2)
    await until(lambda: server.notes.missed > missed)

    def is_heard() -> bool:
        other.sharing.ring(b'"news"')  # Again and again: what is sent before the other one knows of it may be missed.
        return any('"news"' in each for each in server.notes.rung)

    await until(is_heard, every=0.2)
    assert (await server.call(create("p"))).status == 200


async def test_a_server_starts_even_if_its_first_query_hangs(site: Site) -> None:
    """It waits for one that creates the schema and hangs. Its attempts leave no connections that go on waiting."""
    async with await Source(site.url).connect_async() as other:
        await other.execute("SELECT pg_advisory_lock(%s)", (sql.SCHEMA_LOCK,))
        server = site.start()
        await until(lambda: "does not answer" in server.sharing.trouble)
        await asyncio.sleep(5 * SHORT_S)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
        [(count,)] = await site.execute(waiting)
        assert count <= 2

    await server.begin()
    assert (await server.call(create("p"))).status == 200
