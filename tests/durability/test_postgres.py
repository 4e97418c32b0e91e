"""Servers on one PostgreSQL under load: servers die or freeze; the database itself dies and comes back."""

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from durability.load import start_chain, wait_for_chains
from durability.site import Site
from harness.basics import wait_until
from harness.postgres import PostgresServer
from harness.server import ServerProcess
from harness.stream import Stream

from resonate_server.config import Postgres, Sqlite, Storage
from resonate_server.moving import move

_numbers = count()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def site(tmp_path: Path, database: PostgresServer) -> Iterator[Site]:
    """On an empty database."""
    site = Site(tmp_path, database, database.create(f"site_{next(_numbers)}"))
    yield site
    site.close()


def test_a_chain_continues_after_its_server_has_moved_from_sqlite_to_postgresql(site: Site) -> None:
    """It is suspended meanwhile; its workers find the new server at the old one's address."""
    old = ServerProcess(site.folder / "old.log", site.folder / "state.db").start()
    _, baz = (site.worker(name, old.url) for name in ("bar", "baz"))
    start_chain(old.client(), "chain", pause=3_600)
    wait_until(lambda: old.client().call("task.get", id="chain").data["task"]["state"] == "suspended", "bar sleeps")
    old.stop()

    file = Storage(sqlite=Sqlite(path=site.folder / "state.db"))
    move(file, Storage(type="postgres", postgres=Postgres(url=site.url)))
    new = site.server(old.port)
    wait_until(new.is_ready, "the server is ready")
    new.client().end_sleep("chain")

    wait_for_chains(new.client(), ["chain"])
    assert baz.runs("baz") == 1


@pytest.mark.long
def test_ten_servers_that_start_at_once_on_an_empty_database_all_become_ready(site: Site) -> None:
    servers = site.servers(10, seconds=240)

    for number, server in enumerate(servers):
        assert server.client().create(f"p-{number}").status == 200
    assert {servers[-1].client().call("promise.get", id=f"p-{number}").status for number in range(10)} == {200}


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.long)])
def test_servers_die_under_load_one_after_the_other_and_nothing_is_lost(site: Site, kills: int) -> None:
    servers = site.servers(3)
    site.begin()

    for number in range(kills):
        site.work_on()
        victim = servers[number % 3]
        victim.kill()
        site.work_on()
        victim.launch()
        wait_until(victim.is_ready, "it is back")
    site.work_on()

    site.check()


@pytest.mark.long
def test_all_servers_die_under_load_and_everything_continues_when_they_are_back(site: Site) -> None:
    servers = site.servers(3)
    site.begin()
    site.work_on()
    for server in servers:
        server.kill()
    for server in servers:
        server.launch()
    for server in servers:
        wait_until(server.is_ready, "it is back")
    site.work_on()

    site.check()


@pytest.mark.long
def test_a_server_freezes_under_load_and_the_others_continue_without_it_and_with_it(site: Site) -> None:
    """Its locks are released as soon as it counts as dead."""
    frozen, *others = site.servers(3)
    site.begin()
    site.work_on()
    frozen.freeze()
    site.door.shut_to(frozen)
    wait_until(lambda: any("is dead" in each.output() for each in others), "it counts as dead")
    site.work_on()
    frozen.thaw()
    wait_until(lambda: frozen.output().count("INFO at work on the database") == 2, "it has joined the others again")
    wait_until(frozen.is_ready, "it is ready")
    site.door.servers.append(frozen)
    site.work_on()

    site.check()


@pytest.mark.long
def test_workers_leave_a_server_that_hangs(site: Site) -> None:
    """Their connections to it stay open, but it sends nothing."""
    servers = site.servers(2)
    for name in ("bar", "baz"):
        site.worker(name)

    def has_bar(server: ServerProcess) -> bool:
        return "worker connected: service-bar" in server.output()

    wait_until(lambda: any(map(has_bar, servers)), "bar is connected")
    hanging = next(filter(has_bar, servers))
    [other] = [each for each in servers if each is not hanging]
    hanging.freeze()
    start_chain(other.client(), "chain")
    wait_for_chains(other.client(), ["chain"])


def hold_a_task(connected_to: ServerProcess, asked: ServerProcess) -> Stream:
    """Acquire a task for a worker whose stream is at one server and whose requests go to another; return the stream."""
    stream, client = Stream(connected_to.port, "group", "worker"), asked.client()
    client.create("task", target="poll://any@group")
    assert stream.message()["data"]["task"] == {"id": "task", "version": 0}
    assert client.call("task.acquire", id="task", version=0, pid="worker", ttl=3_600_000).status == 200
    return stream


def test_tasks_of_a_worker_that_died_with_its_server_go_to_another_worker(site: Site) -> None:
    """This happens long before its lease ends, and messages sent to it are not lost either."""
    doomed, other = site.servers(2)
    dying = hold_a_task(doomed, other)
    heir = Stream(other.port, "group", "heir")
    doomed.kill()
    dying.close()

    assert heir.message()["data"]["task"] == {"id": "task", "version": 1}


def test_a_worker_that_survives_its_server_keeps_its_tasks(site: Site) -> None:
    doomed, other = site.servers(2)
    worker = hold_a_task(doomed, other)
    doomed.kill()
    worker = Stream(other.port, "group", "worker")
    wait_until(lambda: "is dead" in other.output(), "its server counts as dead")
    time.sleep(4)  # longer than the grace period

    assert other.client().call("task.get", id="task").data["task"]["state"] == "acquired"
    worker.close()


def test_leases_start_again_only_if_no_other_server_is_running(site: Site) -> None:
    first = site.servers(1)[0]
    client = first.client()
    client.create("task", target="poll://any@group")
    assert client.call("task.acquire", id="task", version=0, pid="worker", ttl=3_600_000).status == 200
    lease_end = end_of_lease(site)
    second = site.servers(1)[0]
    assert end_of_lease(site) == lease_end

    for server in (first, second):
        server.kill()
    site.servers(1)
    wait_until(lambda: end_of_lease(site) > lease_end, "it has begun anew")


def test_a_database_that_is_away_ends_no_leases(site: Site) -> None:
    """Meanwhile no server can record a heartbeat."""
    [server, _] = site.servers(2)
    client = server.client()
    client.create("task", target="poll://any@group")
    assert client.call("task.acquire", id="task", version=0, pid="worker", ttl=5_000).status == 200
    site.database.kill()
    time.sleep(5.5)
    site.database.start()
    wait_until(server.is_ready, "it is ready again")

    assert client.call("task.get", id="task").data["task"]["state"] == "acquired"
    wait_until(lambda: client.call("task.get", id="task").data["task"]["state"] == "pending", "its lease ends then")


def end_of_lease(site: Site) -> int:
    with psycopg.connect(site.url) as connection:
        [(time,)] = connection.execute("SELECT timer_at FROM resonate.tasks").fetchall()
    return int(time)


@pytest.mark.long
@pytest.mark.parametrize(("kills", "number"), [(1, 1), (6, 3)])
def test_postgresql_dies_under_load_and_what_was_acknowledged_is_there_when_it_is_back(
    site: Site, kills: int, number: int
) -> None:
    server, *others = site.servers(number)
    site.begin()

    for _ in range(kills):
        site.work_on()
        site.database.kill()
        wait_until(lambda: not server.is_ready(), "it is not ready")
        refused = server.client().create("while-it-is-away")
        assert refused.status == 503
        assert "the database does not answer" in refused.data
        site.database.start()
        wait_until(server.is_ready, "it is ready again by itself")
        site.work_on()

    assert all(each.is_running for each in (server, *others))
    site.check()
