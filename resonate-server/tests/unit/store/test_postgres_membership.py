"""Several servers on one PostgreSQL: how they know one another, what they tell one another, and the time they share."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import psycopg
import pytest
from harness.server import FAR
from unit.store.servers import END_CONNECTIONS, PATIENCE_S, Freezer, Notes, Site, call, create, execute, until

from resonate_server.store import health
from resonate_server.store.postgres import driver, membership, sql
from resonate_server.store.postgres.driver import ServingConnection, Source, name_of
from resonate_server.store.postgres.membership import DEAD_S, DatabaseClock, Membership
from resonate_server.store.postgres.plans import Asked, Found
from resonate_server.store.postgres.schema import migrate
from resonate_server.store.postgres.sql import STEP_MS

type Jump = Callable[[str], Awaitable[None]]


async def test_a_server_that_left_is_forgotten_and_has_no_heir(site: Site) -> None:
    """Even if another one looks meanwhile."""
    (first, of_first), (second, _) = await site.connected(2)
    missed = of_first.missed
    leaving = asyncio.ensure_future(second.close())
    while not leaving.done():
        await first.sharing.look()

    await until(lambda: not of_first.rosters)
    assert of_first.inherited == []
    assert of_first.missed > missed


async def test_all_other_servers_hear_what_one_announces(site: Site) -> None:
    stores = await site.connected(3)
    expected = [1, "\ue000", "x" * 5_000, "y" * 5_000, "\ue000" * 2_600]
    for message in expected:
        stores[0][0].sharing.ring(msgspec.json.encode(message))

    await until(lambda: all(heard(notes) == expected for _, notes in stores[1:]))
    assert stores[0][1].rung == []


async def test_mentions_travel_with_announcements_to_the_same_server_or_else_alone(site: Site) -> None:
    (first, _), (second, of_second), (_, of_third) = await site.connected(3)
    first.sharing.ring(b"1", is_urgent=False)
    first.sharing.ring(b"2", second.sharing.id)
    await until(lambda: of_second.rung)
    assert of_second.rung == ["[1,2]"]

    first.sharing.ring(b"3", is_urgent=False)
    await until(lambda: heard(of_second) == [1, 2, 3])
    await until(lambda: heard(of_third) == [1, 3])


async def test_a_lost_connection_is_reported_and_nothing_listens_on_its_socket_any_more(site: Site) -> None:
    """The number of the socket may soon be that of another one."""
    membership = Membership(site.url, lambda _: None, lambda _: None)
    async with await membership.source.connect_async() as connection:
        socket = connection.fileno()
        waiting = asyncio.ensure_future(membership._wait(connection, time.monotonic() + PATIENCE_S))
        await site.execute("SELECT pg_terminate_backend(%s)", connection.backend)
        with pytest.raises(psycopg.OperationalError, match="server closed the connection"):
            await waiting
    assert not asyncio.get_running_loop().remove_reader(socket)


async def test_servers_hear_that_messages_of_another_one_were_lost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were on their way when the connection broke."""
    (first, _), (_, of_second) = await site.connected(2)

    async def breaking(connection: ServingConnection, *asked: Asked) -> Found:
        if asked[0][0] == sql.RING:
            monkeypatch.setattr(membership, "ask", driver.ask)
            await connection.close()
        return await driver.ask(connection, *asked)

    monkeypatch.setattr(membership, "ask", breaking)
    first.sharing.ring(b"1")

    await until(lambda: heard(of_second) == [None])


def heard(notes: Notes) -> list[Any]:
    return [message for messages in notes.rung for message in msgspec.json.decode(messages)]


async def test_a_dead_server_has_exactly_one_heir(site: Site) -> None:
    """Even if its process number in the database is another program's by now."""
    stores = await site.connected(3)
    async with await Source(site.url, "another program").connect_async() as other:
        await other.execute(
            "INSERT INTO servers (id, backend, beat_at, version, roster) VALUES"
            " (7, pg_backend_pid(), (extract(epoch from clock_timestamp()) * 1000)::bigint, 1, '[7]')"
        )
        async with asyncio.timeout(DEAD_S / 2):
            while not any(notes.inherited for _, notes in stores):
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)  # Let each look again.
    assert sorted(notes.inherited for _, notes in stores) == [[], [], [b"[7]"]]


@pytest.fixture
async def jump(own_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Set the database's clock to another time, given as an interval from now."""
    monkeypatch.setitem(driver.OPTIONS, "search_path", "resonate,pg_catalog")
    await execute(own_postgres_url, "CREATE SCHEMA resonate")
    await execute(own_postgres_url, "CREATE TABLE public.jump AS SELECT interval '0' AS by")
    await execute(
        own_postgres_url,
        "CREATE FUNCTION resonate.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE"
        " AS $$ SELECT pg_catalog.clock_timestamp() + by FROM public.jump $$",
    )

    async def jump(by: str) -> None:
        await execute(own_postgres_url, f"UPDATE public.jump SET by = '{by}'")

    return jump


async def test_no_server_counts_as_dead_because_of_the_database(jump: Jump, site: Site) -> None:
    """Because its clock jumps, or because it ends all connections, as when it restarts: one is the first to be back."""
    stores = await site.connected(3)
    for disturb in (
        lambda: jump("1 hour"),
        lambda: jump("-1 hour"),
        lambda: site.execute(f"{END_CONNECTIONS} AND pid <> pg_backend_pid()"),
    ):
        await disturb()
        await asyncio.sleep(3)  # Let all look, or join, again.

        assert [notes.inherited for _, notes in stores] == [[], [], []]
        assert len(await site.execute("SELECT 1 FROM servers")) == 3


async def test_a_server_whose_heartbeat_stands_still_is_dead_wherever_the_clock_of_the_database_was_set(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "DEAD_S", 1.0)
    _, notes = await site.store()
    async with await Source(site.url, name_of(7)).connect_async() as frozen:
        await frozen.execute(f"INSERT INTO servers VALUES (7, pg_backend_pid(), {FAR}, 1, '[7]')".encode())
        await until(lambda: notes.inherited)

    assert notes.inherited == [b"[7]"]


async def test_servers_agree_on_the_time_after_the_clock_of_the_database_was_set_back(
    jump: Jump, site: Site, freezer: Freezer
) -> None:
    """Even if the first one's heartbeat hung while the second one began."""
    await jump("1 hour")
    first, _ = await site.store()
    await jump("0")
    [(backend,)] = await site.execute("SELECT backend FROM servers")
    freezer.freeze(backend)
    await asyncio.sleep(3)
    second, _ = await site.store()
    freezer.thaw()

    assert first.now() - second.now() > 2_000
    await until(lambda: abs(first.now() - second.now()) < 1_500)


async def test_a_server_declared_dead_rejoins_and_may_have_missed_something(site: Site) -> None:
    (first, of_first), (second, of_second) = await site.store(), await site.store()
    second.sharing.publish(b"[2]")
    await until(lambda: of_first.rosters.get(second.sharing.id) == b"[2]" and of_second.missed >= 2)
    missed = of_second.missed
    await site.execute("DELETE FROM servers WHERE id = %s", second.sharing.id)

    await until(lambda: of_second.missed > missed)
    await until(lambda: of_first.rosters == {second.sharing.id: b"[2]"})
    assert (await call(second, create("p"))).status == 200
    assert first.sharing.has_others


async def test_the_first_server_starts_alone_and_the_others_after_it(site: Site) -> None:
    first, _ = site.start()
    async with first.beginning() as is_first:
        second, _ = site.start()
        assert is_first
        early = asyncio.ensure_future(call(second, create("p")))
        await asyncio.sleep(1)
        assert second.sharing.trouble
    async with second.beginning() as is_first:
        assert not is_first
    assert (await early).status == 200, "it waited: a load balancer may not know yet who is ready"


async def test_the_successor_of_a_dead_lone_server_is_the_first_and_inherits_nothing(site: Site) -> None:
    first, _ = await site.store()
    await site.execute("UPDATE servers SET backend = 0, roster = '[1]'")
    first.sharing.stop()
    second, notes = site.start()
    async with second.beginning() as is_first:
        assert is_first
    assert notes.inherited == []


async def test_a_server_that_finds_a_newer_schema_stops(site: Site) -> None:
    store, _ = await site.store()
    await site.execute("INSERT INTO schema_version (version) VALUES (99)")

    async with asyncio.timeout(PATIENCE_S):
        assert "schema version 99" in await store.lost


async def test_ten_servers_create_the_schema_concurrently(own_postgres_url: str) -> None:
    async def make() -> None:
        async with await Source(own_postgres_url).connect_async() as connection:
            await migrate(connection)

    await asyncio.gather(*[make() for _ in range(10)])

    assert await execute(own_postgres_url, "SELECT version FROM schema_version") == [(1,), (2,), (3,)]


# --- time -----------------------------------------------------------------------------------------------------------

BEGIN = 1_700_000_000_000


@pytest.mark.parametrize(
    ("measured", "took", "passes", "told"),
    [
        pytest.param(0, 0, 70, 70, id="time passes between two readings"),
        *[pytest.param(30, took, 0, 30, id=f"never behind a reading that took {took} ms") for took in (0, 5, 5_000)],
        *[pytest.param(-took, took, 1, 1, id=f"an answer that is {took} ms old") for took in (10, 90, 5_000)],
        pytest.param(-50, 10, 0, 0, id="it never goes back"),
        pytest.param(-50, 10, 45, 5, id="it waits for a database that is certainly behind"),
        pytest.param(-STEP_MS - 1, 0, 1, 1, id="it does not follow one that was set back"),
    ],
)
def test_the_clock_follows_that_of_the_database(measured: int, took: int, passes: int, told: int) -> None:
    uptime = 1_000
    clock = DatabaseClock(lambda: uptime)
    clock.begin(BEGIN)
    assert clock() == BEGIN
    clock.measured(BEGIN + measured, took)
    uptime += passes

    assert clock() == BEGIN + told


def test_a_trouble_that_comes_and_goes_is_logged_once_and_one_that_stays_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the role lost its right to one table: a server joins, and fails at once."""
    caplog.set_level(logging.INFO)
    member = Membership("postgresql://", lambda _: None, lambda _: None)
    for _ in range(20):
        member._tell("")
        member._tell("no right to it")
    monkeypatch.setattr(health, "QUIET_S", 0.0)
    member._tell("no right to it")
    member._tell("no right to it")

    at_work, not_at_work = "at work on the database", "not at work: no right to it"
    assert caplog.messages == [at_work, not_at_work, at_work, not_at_work]


async def test_a_database_without_a_connection_left_is_said_to_refuse_not_to_be_silent(site: Site) -> None:
    await site.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    with pytest.raises(psycopg.OperationalError) as refused:
        await psycopg.AsyncConnection.connect(site.url, user="crowd")
    assert membership.told(refused.value).startswith("the database refuses this: ")
    assert membership.told(OSError("timed out")) == "the database does not answer: timed out"
