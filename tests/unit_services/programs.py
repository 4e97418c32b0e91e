"""Programs that tests start and stop individually."""

import base64
from pathlib import Path
from typing import Any, override

from harness import stack
from harness.basics import wait_until
from harness.process import Process
from harness.server import Client, ServerProcess
from harness.services import CONNECTED

HERE = Path(__file__).parent


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

    def start_worker(self, name: str, *, health_file: Path | None = None, **env: str) -> Process:
        """Start one of the services, or a file beside this one."""
        file = HERE / f"{name}.py"
        return self.begin(name, str(file) if file.exists() else name, HEALTH_FILE=str(health_file or ""), **env)

    def connect_worker(self, name: str, **env: str) -> Process:
        """Start a worker, and return once it is connected."""
        worker = self.start_worker(name, health_file=None, **env)
        worker.wait_for(CONNECTED)
        return worker

    def start_foo(self, hosts: str = "") -> Process:
        foo = self.start_worker("foo", FOO_HOSTS=hosts)
        wait_until(self.is_healthy, "foo is healthy")
        return foo

    def start_services(self) -> tuple[Process, Process, Process]:
        bar, baz, foo = self.start_worker("bar"), self.start_worker("baz"), self.start_foo()
        for worker in (bar, baz):
            worker.wait_for(CONNECTED)
        return foo, bar, baz

    def settle(self, id: str, value: bytes = b"", state: str = "resolved") -> None:
        """Settle a promise as anybody may."""
        data = {"data": base64.b64encode(value).decode()}
        self.ask_server("promise.settle", id=id, state=state, value=data)

    @override
    def program(self, name: str) -> Process:
        return self.server if name == "server" else super().program(name)

    def client(self) -> Client:
        return Client(self.server_port)

    def ask_server(self, kind: str, **data: Any) -> Any:
        """Return the data of the server's answer to a request of the protocol."""
        reply = self.client().call(kind, **data)
        assert reply.status == 200, reply
        return reply.data
