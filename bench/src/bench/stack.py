"""What is measured, as processes on free ports: Resonate servers, our services on one of them, the plain chain."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self, override

from harness.basics import free_port
from harness.server import ServerProcess
from harness.stack import Programs, Stack, wait_until_healthy

from bench.plain import NAMES, THREADS

SERVER = "resonate-server"
"""The name of the process of a Resonate server."""
GUNICORN = f"--worker-class gthread --threads {THREADS} --worker-connections 2048 --keep-alive 75 --no-control-socket"


class OwnServer(ServerProcess):
    """Our server on a SQLite file in ``folder``, unless ``env``, its settings, say otherwise."""

    token = ""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.metrics_port = free_port()
        self.db = folder / "resonate.db"
        settings = {"RESONATE_OBSERVABILITY__METRICS_PORT": str(self.metrics_port), **(env or {})}
        super().__init__(folder / "resonate-server.log", self.db, port, **settings)

    def pids(self) -> dict[str, int]:
        return {SERVER: self.pid}


class OwnServers:
    """Several servers that share a database and a port."""

    token, metrics_port = "", 0

    def __init__(self, folder: Path, number: int, env: Mapping[str, str]) -> None:
        port, settings = free_port(), {"RESONATE_SERVER__SHARED_PORT": "true", **env}
        self._servers = [OwnServer(folder / str(each), settings, port) for each in range(number)]
        self.url = self._servers[0].url

    def start(self) -> Self:
        for server in self._servers:
            server.start()
        return self

    def pids(self) -> dict[str, int]:
        return {f"{SERVER} {number}": server.pid for number, server in enumerate(self._servers, start=1)}

    def kill(self) -> None:
        for server in self._servers:
            server.kill()


class OtherServer:
    """A running server. Its token, if it has one, is in RESONATE_TOKEN, the SDK's own variable."""

    name = "server by URL"
    metrics_port = 0

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.token = os.environ.get("RESONATE_TOKEN", "")

    def start(self) -> Self:
        return self

    def pids(self) -> dict[str, int]:
        return {}

    def kill(self) -> None:
        pass


class OurServices(Stack):
    """Our services, on one of these servers."""

    def __init__(self, folder: Path, server: OwnServer | OwnServers | OtherServer) -> None:
        super().__init__(folder, server)
        self.metrics_port = server.metrics_port
        self._server = server

    @override
    def pids(self) -> dict[str, int]:
        return {**self._server.pids(), **super().pids()}


class PlainStack(Programs):
    """foo, bar and baz of `bench.plain`, under gunicorn with threads."""

    metrics_port = 0

    def __init__(self, folder: Path) -> None:
        self._ports = {name: free_port() for name in NAMES}
        super().__init__(folder, {f"PLAIN_{name.upper()}_PORT": str(port) for name, port in self._ports.items()})
        self.foo_url = f"http://127.0.0.1:{self._ports['foo']}/foo"

    @override
    def start(self) -> Self:
        for name, port in self._ports.items():
            self.launch(name, "gunicorn", *GUNICORN.split(), "--bind", f"127.0.0.1:{port}", f"bench.plain:{name}")
        for name, port in self._ports.items():
            wait_until_healthy(self.programs[name], port)
        return self
