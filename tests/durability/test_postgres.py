"""A server on PostgreSQL under load: it dies and its standby takes over; the database itself dies and comes back."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pytest
from durability.load import Load, check_everything_is_there, start_chain, wait_for_chains
from harness.basics import answers_200, free_port, wait_until
from harness.postgres import PostgresServer
from harness.server import ServerProcess
from harness.services import ServiceProcess

from resonate_server.moving import Location, move

CLIENTS = 3


class Door:
    """What stands before several servers: a connection goes to one that is ready, or is closed."""

    def __init__(self) -> None:
        self.servers: list[ServerProcess] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller, suppress(OSError):
            port = next((each.port for each in self.servers if each.is_running and each.is_ready()), None)
            if port is None:
                return
            with socket.create_connection(("127.0.0.1", port)) as server:
                there = threading.Thread(target=_pass_on, args=(caller, server), daemon=True)
                there.start()
                _pass_on(server, caller)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Site:
    """Servers on one database, workers and load behind one door."""

    def __init__(self, folder: Path, database: PostgresServer) -> None:
        self.folder = folder
        self.database = database
        self.door = Door()
        self.workers: list[ServiceProcess] = []
        self._stop = threading.Event()
        self.load = [Load(number, self.door.port, self._stop) for number in range(CLIENTS)]

    def server(self, port: int | None = None) -> ServerProcess:
        """Another one, launched; whether it becomes ready depends on the others."""
        number = len(self.door.servers)
        place = {"RESONATE_STORAGE__TYPE": "postgres", "RESONATE_STORAGE__POSTGRES__URL": self.database.url}
        server = ServerProcess(self.folder / f"server-{number}.log", None, port or free_port(), **place)
        self.door.servers.append(server)
        server.launch()
        return server

    def begin(self) -> None:
        self.workers = [ServiceProcess(name, self.door.url, self.folder / f"{name}.log") for name in ("bar", "baz")]
        for thread in self.load:
            thread.start()

    def work_on(self) -> None:
        """Return when each client has had something acknowledged since."""
        before = [len(thread.acknowledged.created) for thread in self.load]
        wait_until(
            lambda: all(len(thread.acknowledged.created) > n + 5 for thread, n in zip(self.load, before, strict=True)),
            "requests go on",
        )

    def check(self) -> None:
        """Everything that was acknowledged is there, and every chain completes."""
        self._stop.set()
        for thread in self.load:
            thread.join()
        acknowledged = [thread.acknowledged for thread in self.load]
        client = next(server for server in self.door.servers if server.is_running and server.is_ready()).client()
        check_everything_is_there(client, acknowledged)
        wait_for_chains(client, [id for record in acknowledged for id in record.chains])

    def close(self) -> None:
        self._stop.set()
        for process in (*self.workers, *self.door.servers):
            process.kill()
        self.door.close()


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def site(tmp_path: Path, database: PostgresServer) -> Iterator[Site]:
    site = Site(tmp_path, database)
    yield site
    site.close()


def readiness(server: ServerProcess) -> str:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().read().decode()
    except OSError as error:
        return str(error)
    finally:
        connection.close()


def test_a_chain_comes_to_its_end_on_postgresql(site: Site) -> None:
    server = site.server()
    wait_until(server.is_ready, "the server is ready")
    site.workers = [ServiceProcess(name, server.url, site.folder / f"{name}.log") for name in ("bar", "baz")]
    start_chain(server.client(), "chain")

    wait_for_chains(server.client(), ["chain"])


def test_a_chain_goes_on_after_its_server_has_moved_from_sqlite_to_postgresql(site: Site) -> None:
    """Suspended meanwhile; its workers find the new server in the place of the old one."""
    old = ServerProcess(site.folder / "old.log", site.folder / "state.db").start()
    site.workers = [ServiceProcess(name, old.url, site.folder / f"{name}.log") for name in ("bar", "baz")]
    start_chain(old.client(), "chain", pause=3_600)
    wait_until(lambda: old.client().call("task.get", id="chain").data["task"]["state"] == "suspended", "bar sleeps")
    old.stop()

    move(Location("sqlite", str(site.folder / "state.db")), Location("postgres", site.database.url))
    new = site.server(old.port)
    wait_until(new.is_ready, "the server is ready")
    new.client().end_sleep("chain")

    wait_for_chains(new.client(), ["chain"])
    assert site.workers[1].runs("baz") == 1


def test_a_second_server_waits_and_says_so(site: Site) -> None:
    first = site.server()
    wait_until(first.is_ready, "the first is ready")
    second = site.server()
    wait_until(lambda: "standby: another server holds this database" in readiness(second), "the second one is standby")

    refused = second.client().create("p")
    assert refused.status == 503
    assert "standby" in refused.data
    assert first.is_ready()


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.long)])
def test_a_server_dies_under_load_and_its_standby_goes_on_without_losing_anything(site: Site, kills: int) -> None:
    at_work = site.server()
    wait_until(at_work.is_ready, "the first server is ready")
    standby = site.server()
    wait_until(lambda: "standby" in readiness(standby), "the second one is standby")
    site.begin()

    for _ in range(kills):
        site.work_on()
        at_work.kill()
        wait_until(standby.is_ready, "the standby has taken over")
        at_work.launch()
        wait_until(lambda server=at_work: "standby" in readiness(server), "it came back as standby")  # type: ignore[misc]
        at_work, standby = standby, at_work
    site.work_on()

    site.check()


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.long)])
def test_postgresql_dies_under_load_and_what_was_acknowledged_is_there_when_it_is_back(site: Site, kills: int) -> None:
    server = site.server()
    wait_until(server.is_ready, "the server is ready")
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

    assert server.is_running
    site.check()


def test_a_server_whose_database_was_taken_over_acknowledges_nothing_and_ends(site: Site) -> None:
    """Frozen, and taken for dead: the database ends the connection with its lock, and the others live on."""
    first = site.server()
    wait_until(first.is_ready, "the first is ready")
    second = site.server()
    wait_until(lambda: "standby" in readiness(second), "the second one is standby")
    first.freeze()
    with psycopg.connect(site.database.url) as database:
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    wait_until(second.is_ready, "the second one has taken over")
    first.thaw()

    wait_until(lambda: not first.is_running, "the first one ends")
    assert "another server has taken this database over" in first.output()
    assert answers_200(second.port, "/ready")
