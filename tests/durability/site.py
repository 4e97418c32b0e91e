"""Servers on one database, with workers and load behind one load balancer."""

import itertools
import socket
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import override

from durability.load import Load, check_everything_is_there, wait_for_chains
from harness.basics import free_port, wait_until
from harness.postgres import PostgresServer
from harness.process import Process
from harness.server import ServerProcess
from harness.stack import Programs

CLIENTS = 3


class Door:
    """A load balancer: it passes each connection to the next server that is ready, or closes it."""

    def __init__(self) -> None:
        self.servers: list[ServerProcess] = []
        self._turns = itertools.count()
        self._passing: dict[int, list[socket.socket]] = defaultdict(list)
        """By port of the server."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def shut_to(self, server: ServerProcess) -> None:
        """Stop using a server that does not answer, and close all connections to it."""
        self.servers.remove(server)
        for each in self._passing.pop(server.port, []):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller, suppress(OSError):
            first = next(self._turns) % len(self.servers)
            in_turn = [*self.servers[first:], *self.servers[:first]]
            port = next((each.port for each in in_turn if each.is_running and each.is_ready()), None)
            if port is None:
                return
            with socket.create_connection(("127.0.0.1", port)) as server:
                self._passing[port].append(server)
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


class Site(Programs):
    """Starts nothing by itself. ``url``: another database of ``database`` than its first."""

    def __init__(self, folder: Path, database: PostgresServer, url: str = "") -> None:
        super().__init__(folder, {})
        self.database, self.url = database, url or database.url
        self.door = Door()
        self._servers: list[ServerProcess] = []
        self._stop = threading.Event()
        self.load = [Load(number, self.door.port, self._stop) for number in range(CLIENTS)]

    def server(self, port: int | None = None) -> ServerProcess:
        """Launch another server."""
        number = len(self._servers)
        place = {"RESONATE_STORAGE__TYPE": "postgres", "RESONATE_STORAGE__POSTGRES__URL": self.url}
        server = ServerProcess(self.folder / f"server-{number}.log", None, port or free_port(), **place)
        self._servers.append(server)
        self.door.servers.append(server)
        server.launch()
        return server

    def servers(self, number: int, seconds: float = 60) -> list[ServerProcess]:
        """Start that many at once, and wait until they are ready."""
        servers = [self.server() for _ in range(number)]
        for each in servers:
            wait_until(each.is_ready, "the servers are ready", seconds)
        return servers

    def worker(self, name: str, url: str = "") -> Process:
        """Start a service that connects to the door, or to one server."""
        return self.launch(name, RESONATE_URL=url or self.door.url)

    def begin(self) -> None:
        for name in ("bar", "baz"):
            self.worker(name)
        for thread in self.load:
            thread.start()

    def work_on(self) -> None:
        """Return when each client has had new requests acknowledged."""
        before = [len(thread.acknowledged.created) for thread in self.load]
        wait_until(
            lambda: all(len(thread.acknowledged.created) > n + 5 for thread, n in zip(self.load, before, strict=True)),
            "requests go on",
        )

    def check(self) -> None:
        """Check that everything acknowledged is there and that every chain completes."""
        self._stop.set()
        for thread in self.load:
            thread.join()
        acknowledged = [thread.acknowledged for thread in self.load]
        client = next(server for server in self.door.servers if server.is_running and server.is_ready()).client()
        check_everything_is_there(client, acknowledged)
        wait_for_chains(client, [id for record in acknowledged for id in record.chains])

    @override
    def close(self) -> None:
        self._stop.set()
        super().close()
        for server in self._servers:
            server.kill()
        self.door.close()
