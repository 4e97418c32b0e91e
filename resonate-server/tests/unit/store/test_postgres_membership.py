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
from unit.store.servers import PATIENCE_S, Freezer, Server, Site, create, until

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
    first, second = await site.connected(2)
    missed = first.notes.missed
    leaving = asyncio.ensure_future(second.store.close())
    while not leaving.done():
        await first.sharing.look()

    await until(lambda: not first.notes.rosters)
    assert first.notes.inherited == []
    assert first.notes.missed > missed


async def test_all_other_servers_hear_what_one_announces(site: Site) -> None:
    first, *others = await site.connected(3)
    expected = [1, "\ue000", "x" * 5_000, "y" * 5_000, "\ue000" * 2_600]
    for message in expected:
        first.sharing.ring(msgspec.json.encode(message))

    await until(lambda: all(heard(other) == expected for other in others))
    assert first.notes.rung == []


async def test_mentions_travel_with_announcements_to_the_same_server_or_else_alone(site: Site) -> None:
    first, second, third = await site.connected(3)
    first.sharing.ring(b"1", is_urgent=False)
    first.sharing.ring(b"2", second.sharing.id)
    await until(lambda: second.notes.rung)
    assert second.notes.rung == ["[1,2]"]

    first.sharing.ring(b"3", is_urgent=False)
    await until(lambda: heard(second) == [1, 2, 3])
    await until(lambda: heard(third) == [1, 3])


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
    first, second = await site.connected(2)

    async def breaking(connection: ServingConnection, *asked: Asked) -> Found:
        if asked[0][0] == sql.RING:
            monkeypatch.setattr(membership, "ask", driver.ask)
            await connection.close()
        return await driver.ask(connection, *asked)

    monkeypatch.setattr(membership, "ask", breaking)
    first.sharing.ring(b"1")

    await until(lambda: heard(second) == [None])


def heard(server: Server) -> list[Any]:
    return [message for messages in server.notes.rung for message in msgspec.json.decode(messages)]


async def test_a_dead_server_has_exactly_one_heir(site: Site) -> None:
    """Even if its process number in the database is another program's by now."""
    servers = await site.connected(3)
    async with await Source(site.url, "another program").connect_async() as other:
        await other.execute(
            "INSERT INTO servers (id, backend, beat_at, version, roster) VALUES"
            " (7, pg_backend_pid(), (extract(epoch from clock_timestamp()) * 1000)::bigint, 1, '[7]')"
        )
        async with asyncio.timeout(DEAD_S / 2):
            while not any(server.notes.inherited for server in servers):
                await asyncio.sleep(0.05)
        await asyncio.sleep(2)  # Let each look again.
    assert sorted(server.notes.inherited for server in servers) == [[], [], [b"[7]"]]


@pytest.fixture
async def jump(site: Site, monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Set the database's clock to another time, given as an interval from now."""
    monkeypatch.setitem(driver.OPTIONS, "search_path", "resonate,pg_catalog")
    await site.execute("CREATE SCHEMA resonate")
    await site.execute("CREATE TABLE public.jump AS SELECT interval '0' AS by")
    await site.execute(
        "CREATE FUNCTION resonate.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE"
        " AS $$ SELECT pg_catalog.clock_timestamp() + by FROM public.jump $$"
    )

    async def jump(by: str) -> None:
        await site.execute(f"UPDATE public.jump SET by = '{by}'")

    return jump


async def test_no_server_counts_as_dead_because_of_the_database(jump: Jump, site: Site) -> None:
    """Because its clock jumps, or because it ends all connections, as when it restarts: one is the first to be back."""
    servers = await site.connected(3)
    for disturb in (jump("1 hour"), jump("-1 hour"), site.end_connections()):
        await disturb
        await asyncio.sleep(3)  # Let all look, or join, again.

        assert [server.notes.inherited for server in servers] == [[], [], []]
        assert len(await site.execute("SELECT 1 FROM servers")) == 3


async def test_a_server_whose_heartbeat_stands_still_is_dead_wherever_the_clock_of_the_database_was_set(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "DEAD_S", 1.0)
    server = await site.server()
    async with await Source(site.url, name_of(7)).connect_async() as frozen:
        await frozen.execute(f"INSERT INTO servers VALUES (7, pg_backend_pid(), {FAR}, 1, '[7]')".encode())
        await until(lambda: server.notes.inherited)

    assert server.notes.inherited == [b"[7]"]


async def test_servers_agree_on_the_time_after_the_clock_of_the_database_was_set_back(
    jump: Jump, site: Site, freezer: Freezer
) -> None:
    """Even if the first one's heartbeat hung while the second one began."""
    await jump("1 hour")
    first = await site.server()
    await site.execute(f"SELECT pg_advisory_lock({sql.BEGINNING})")  # A frozen one could not let the second begin.
    await jump("0")
    [(backend,)] = await site.execute("SELECT backend FROM servers")
    freezer.freeze(backend)
    await asyncio.sleep(3)
    second = await site.server()
    freezer.thaw()

    assert first.store.now() - second.store.now() > 2_000
    await until(lambda: abs(first.store.now() - second.store.now()) < 1_500)


async def test_a_server_declared_dead_rejoins_and_may_have_missed_something(site: Site) -> None:
    first, second = await site.server(), await site.server()
    second.sharing.publish(b"[2]")
    await until(lambda: first.notes.rosters.get(second.sharing.id) == b"[2]" and second.notes.missed >= 2)
    missed = second.notes.missed
    await site.execute("DELETE FROM servers WHERE id = %s", second.sharing.id)

    await until(lambda: second.notes.missed > missed)
    await until(lambda: first.notes.rosters == {second.sharing.id: b"[2]"})
    assert (await second.call(create("p"))).status == 200
    assert first.sharing.has_others


async def test_the_first_server_starts_alone_and_the_others_after_it(site: Site) -> None:
    first = site.start()
    async with first.store.beginning() as is_first:
        second = site.start()
        assert is_first
        early = asyncio.ensure_future(second.call(create("p")))
        await asyncio.sleep(1)
        assert second.sharing.trouble
    assert not await second.begin()
    assert (await early).status == 200, "it waited: a load balancer may not know yet who is ready"


async def test_the_successor_of_a_dead_lone_server_is_the_first_and_inherits_nothing(site: Site) -> None:
    first = await site.server()
    await site.execute("UPDATE servers SET backend = 0, roster = '[1]'")
    first.sharing.stop()
    second = site.start()
    assert await second.begin()
    assert second.notes.inherited == []


async def test_a_server_that_finds_a_newer_schema_stops(server: Server, site: Site) -> None:
    await site.execute("INSERT INTO schema_version (version) VALUES (99)")

    async with asyncio.timeout(PATIENCE_S):
        assert "schema version 99" in await server.store.lost


@pytest.mark.parametrize("version", [1, 2])
async def test_a_server_goes_on_with_the_schema_of_an_earlier_one(version: int, site: Site) -> None:
    async with await Source(site.url).connect_async() as connection:
        for step in (sql.CREATE_SCHEMA, *sql.MIGRATIONS[:version]):
            await connection.execute(step.encode(), prepare=False)
        await connection.execute(sql.PUT_VERSION.encode(), (version,))
    server = await site.server()

    assert (await server.call(create("kept"))).status == 200
    assert await site.execute("SELECT max(version) FROM schema_version") == [(len(sql.MIGRATIONS),)]


async def test_ten_servers_create_the_schema_concurrently(site: Site) -> None:
    async def make() -> None:
        async with await Source(site.url).connect_async() as connection:
            await migrate(connection)

    await asyncio.gather(*[make() for _ in range(10)])

    assert await site.execute("SELECT version FROM schema_version") == [(1,), (2,), (3,)]


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
