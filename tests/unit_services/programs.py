"""Programs that tests start and stop individually."""

import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, override

import psutil
from harness import stack
from harness.basics import wait_until
from harness.http import Response
from harness.process import Process
from harness.server import Client, ServerProcess
from harness.services import CONNECTED

HERE = Path(__file__).parent
GROUP = "service-functions"
"""The group of the functions beside this file."""


class Stack(stack.Stack):
    """A server and its programs; nothing is running yet."""

    server: ServerProcess

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ServerProcess(folder / "server.log"))
        self.server_port = self.server.port

    def start_server(self, **env: str) -> ServerProcess:
        """Start a server with its state in a file, so that it can be restarted."""
        self.server = ServerProcess(self.folder / "server.log", self.folder / "state.db", self.server_port, **env)
        return self.server.start()

    def start_worker(self, name: str, **env: str) -> Process:
        """Start one of the services, or a file beside this one."""
        file = HERE / f"{name}.py"
        return self.begin(name, str(file) if file.exists() else name, HEALTH_FILE="", **env)

    def connect_worker(self, name: str, **env: str) -> Process:
        """Start a worker, and return once it is connected."""
        worker = self.start_worker(name, **env)
        worker.wait_for(CONNECTED)
        return worker

    def start_foo(self, hosts: str = "") -> Process:
        foo = self.start_worker("foo", FOO_HOSTS=hosts)
        wait_until(self.is_healthy, "foo is healthy")
        return foo

    def start_services(self) -> None:
        workers = self.start_worker("bar"), self.start_worker("baz")
        self.start_foo()
        for worker in workers:
            worker.wait_for(CONNECTED)

    def serving(self) -> psutil.Process:
        """Return foo's process that serves requests; its parent is gunicorn's."""
        [serving] = psutil.Process(self.program("foo").pid).children()
        return serving

    def send_waiting_request(self, key: str | None, pause: int = 3) -> socket.socket:
        """Send foo a request on a connection of its own, and do not read the answer."""
        connection = self.connect()
        body = f'{{"pause": {pause}}}'
        line = f"Idempotency-Key: {key}\r\n" if key else ""
        head = f"POST /foo HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        return connection

    def settle(self, id: str, value: bytes = b"", state: str = "resolved") -> None:
        """Settle a promise as anybody may."""
        self.ask_server("promise.settle", id=id, state=state, value={"data": b64encode(value).decode()})

    @override
    def program(self, name: str) -> Process:
        return self.server if name == "server" else super().program(name)

    def client(self, token: str = "") -> Client:
        return Client(self.server_port, token=token)

    def ask_server(self, kind: str, **data: Any) -> Any:
        """Return the data of the server's answer to a request of the protocol."""
        reply = self.client().call(kind, **data)
        assert reply.status == 200, reply
        return reply.data


def is_problem(reply: Response, status: HTTPStatus) -> bool:
    return (
        reply.status == status
        and reply.content_type == "application/problem+json"
        and reply.json["status"] == status
        and reply.json["title"] == status.phrase
    )


@contextmanager
def closing(connections: list[socket.socket]) -> Iterator[list[socket.socket]]:
    """Close them all in the end, including those added meanwhile."""
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(4096):
        received += chunk
    return received
