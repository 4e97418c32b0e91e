"""The stack as processes on free ports in a folder of its own: started, looked at, killed, frozen, stopped.

A server is ours, one that a command starts, or one that runs already; foo, bar and baz are always those of this
repository. Nothing here measures.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from harness.basics import answers_200, free_port, wait_until
from harness.process import Process
from harness.server import ServerProcess

START_SECONDS = 30
CONNECTED = "connected to server"
"""What a worker prints once its stream is established."""


class Server(Protocol):
    """A Resonate server that the services can be pointed at."""

    name: str
    url: str
    metrics_url: str | None
    """Where its Prometheus figures are, if it has some that we know."""

    def start(self) -> Self:
        """Return once it is ready; raises if it does not become so."""

    def pids(self) -> dict[str, int]:
        """Of what was started here."""

    def close(self) -> None:
        """End what was started here."""


class OwnServer(ServerProcess):
    """Our server on a SQLite file in ``folder``; ``env`` are its settings."""

    name = "resonate-server"

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None, db: Path | None = None) -> None:
        metrics_port = free_port()
        self.db = db or folder / "resonate.db"
        settings = {"RESONATE_OBSERVABILITY__METRICS_PORT": str(metrics_port), **(env or {})}
        super().__init__(folder / "resonate-server.log", self.db, None, **settings)
        self.metrics_url: str | None = f"http://127.0.0.1:{metrics_port}/metrics"

    def pids(self) -> dict[str, int]:
        return {self.name: self.pid}

    def close(self) -> None:
        self.kill()


class CommandServer(Process):
    """Any server that ``command`` starts; it says ``{port}`` where the port belongs. Ready by ``GET /health``."""

    def __init__(self, name: str, command: str, folder: Path) -> None:
        self.name = name
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.metrics_url: str | None = None
        words = [word.replace("{port}", str(self._port)) for word in shlex.split(command)]
        super().__init__(words, folder / f"{name}.log", {})

    def start(self) -> Self:
        self.launch()
        wait_until(self._is_healthy, f"the server of {self.command} is healthy: see {self.log}", START_SECONDS)
        return self

    def pids(self) -> dict[str, int]:
        return {self.name: self.pid}

    def close(self) -> None:
        self.kill()

    def _is_healthy(self) -> bool:
        if not self.is_running:
            raise RuntimeError(f"the server ended:\n{self.output()}")
        return answers_200(self._port, "/health")


class RunningServer:
    """A server that runs already, somewhere."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.metrics_url: str | None = None

    def start(self) -> Self:
        return self

    def pids(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


class Stack:
    """One server and the three services. ``env`` is for the services: LEASE_SECONDS and the like.

    Programs are known by name: ``foo``, ``bar``, ``baz``, and what was added, for instance ``bar-2``.
    """

    def __init__(self, folder: Path, server: Server, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.server = server
        self.foo_port = free_port()
        self.foo_url = f"http://127.0.0.1:{self.foo_port}"
        self.services: dict[str, Process] = {}
        self._env = {"RESONATE_URL": server.url, "FOO_PORT": str(self.foo_port), **(env or {})}

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """The server, then the services; returns once all of them are connected."""
        self.server.start()
        for name in ("baz", "bar", "foo"):
            self.add(name)
        for name in ("baz", "bar", "foo"):
            self.wait_until_connected(name)
        return self

    def add(self, name: str, module: str | None = None) -> Process:
        """Launch a service, one more bar (``add("bar-2", "bar")``), or any program that ``python -m`` runs."""
        process = Process([sys.executable, "-m", module or name], self.folder / f"{name}.log", self._env)
        process.launch()
        self.services[name] = process
        return process

    def wait_until_connected(self, name: str, seconds: float = START_SECONDS, times: int = 1) -> None:
        """Until the program has said ``times`` times that it is connected, and foo serves requests."""
        wait_until(lambda: self._is_connected(name, times), f"{name} is connected: see {self.folder}", seconds)

    def pids(self) -> dict[str, int]:
        """Of everything that was started here, by name."""
        running = {name: process.pid for name, process in self.services.items() if process.is_running}
        return {**self.server.pids(), **running}

    def stop(self) -> None:
        """End everything at once; what is stored in the folder stays."""
        for process in self.services.values():
            process.kill()
        self.server.close()

    def _is_connected(self, name: str, times: int) -> bool:
        process = self.services[name]
        if not process.is_running:
            raise RuntimeError(f"{name} ended:\n{process.output()}")
        connected = process.output().count(CONNECTED) >= times
        return connected and (name != "foo" or answers_200(self.foo_port, "/health"))
