"""What is measured, as processes on free ports: Resonate servers, our services on one of them, the plain chain."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self, override

from harness.basics import answers_200, free_port, wait_until
from harness.process import Process
from harness.server import ServerProcess

from bench.plain import THREADS

SERVER = "resonate-server"
"""The name of the process of a Resonate server."""
CONNECTED = "connected to server"
"""What a worker prints once its stream is established."""
CHAIN = ("foo", "bar", "baz")
GUNICORN = f"--worker-class gthread --threads {THREADS} --worker-connections 2048 --keep-alive 75 --no-control-socket"


class OwnServer(ServerProcess):
    """Our server on a SQLite file in ``folder``; ``env`` are its settings."""

    token = ""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        metrics_port = free_port()
        self.db = folder / "resonate.db"
        settings = {"RESONATE_OBSERVABILITY__METRICS_PORT": str(metrics_port), **(env or {})}
        super().__init__(folder / "resonate-server.log", self.db, None, **settings)
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"

    def pids(self) -> dict[str, int]:
        return {SERVER: self.pid}


class OtherServer:
    """One that runs at ``url``, or that ``command`` starts: it says ``{port}`` where the port belongs.

    What it asks everybody for is in RESONATE_TOKEN, the SDK's own variable.
    """

    metrics_url = ""

    def __init__(self, folder: Path, url: str, command: str = "") -> None:
        self._port = free_port()
        self.url = url.rstrip("/") or f"http://127.0.0.1:{self._port}"
        self.token = os.environ.get("RESONATE_TOKEN", "")
        words = [word.replace("{port}", str(self._port)) for word in shlex.split(command)]
        self._process = Process(words, folder / "other-server.log", {}) if command else None

    def start(self) -> Self:
        if self._process is not None:
            self._process.launch()
            wait_until_healthy(self._process, self._port)
        return self

    def pids(self) -> dict[str, int]:
        return {SERVER: self._process.pid} if self._process is not None else {}

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


type Server = OwnServer | OtherServer


def other_servers(url: str, command: str, folder: Path) -> dict[str, Server]:
    """Those that are given, by what they are called in reports."""
    given = {"server by URL": (url, ""), "server by command": ("", command)}
    return {name: OtherServer(folder, *where) for name, where in given.items() if any(where)}


class Programs:
    """Programs by name, all with one environment on top of this process's own, and their logs in ``folder``."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.programs: dict[str, Process] = {}
        self._env = env

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Return once all of them are ready; raises with what one printed that ended."""
        raise NotImplementedError

    def launch(self, name: str, *words: str) -> Process:
        """What ``python -m`` runs."""
        self.programs[name] = Process([sys.executable, "-m", *words], self.folder / f"{name}.log", self._env)
        self.programs[name].launch()
        return self.programs[name]

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.programs.items()}

    def kill(self) -> None:
        """End everything at once; what is stored in the folder stays."""
        for process in self.programs.values():
            process.kill()


class Stack(Programs):
    """A server, and ``foo``, ``bar`` and ``baz``; ``env`` is for these: LEASE_SECONDS and the like."""

    def __init__(self, folder: Path, server: Server, env: Mapping[str, str] | None = None) -> None:
        self.server = server
        self.foo_port = free_port()
        self.foo_url = f"http://127.0.0.1:{self.foo_port}/foo"
        at_server = {"RESONATE_URL": server.url, "RESONATE_TOKEN": server.token}
        super().__init__(folder, {**at_server, "FOO_PORT": str(self.foo_port), **(env or {})})

    @override
    def start(self) -> Self:
        self.server.start()
        for name in CHAIN:
            self.launch(name, name)
        for name in CHAIN:
            self.wait_until_connected(name)
        return self

    def connections(self, name: str) -> int:
        """How often the program has said that it is connected."""
        return self.programs[name].output().count(CONNECTED)

    def wait_until_connected(self, name: str, before: int = 0) -> None:
        """Until the program is connected once more than ``before``, and foo serves requests."""
        process = self.programs[name]
        wait_until(lambda: not process.is_running or self.connections(name) > before, f"{name} is connected")
        if name == "foo" or not process.is_running:
            wait_until_healthy(process, self.foo_port)

    @override
    def pids(self) -> dict[str, int]:
        return {**self.server.pids(), **super().pids()}

    @override
    def kill(self) -> None:
        super().kill()
        self.server.kill()


class PlainStack(Programs):
    """foo, bar and baz of `bench.plain`, under gunicorn with threads."""

    def __init__(self, folder: Path) -> None:
        self._ports = {name: free_port() for name in CHAIN}
        super().__init__(folder, {f"PLAIN_{name.upper()}_PORT": str(port) for name, port in self._ports.items()})
        self.foo_url = f"http://127.0.0.1:{self._ports['foo']}/foo"

    @override
    def start(self) -> Self:
        for name, port in self._ports.items():
            self.launch(name, "gunicorn", *GUNICORN.split(), "--bind", f"127.0.0.1:{port}", f"bench.plain:{name}")
        for name, port in self._ports.items():
            wait_until_healthy(self.programs[name], port)
        return self


def wait_until_healthy(process: Process, port: int) -> None:
    """Raises ``RuntimeError`` with what it printed if it ends before."""
    wait_until(lambda: not process.is_running or answers_200(port, "/health"), f"{process.log} is healthy")
    if not process.is_running:
        raise RuntimeError(f"{process.command} ended:\n{process.output()}")
