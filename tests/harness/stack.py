"""The demo's services as processes on free ports in a folder of their own: started, watched, killed, started again."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, override

from harness.basics import answers_200, free_port, wait_until
from harness.process import Process
from harness.services import SERVICES

CONNECTED = "connected to server"
"""What a worker prints once its stream is established."""


class Server(Protocol):
    """A Resonate server that the services can be pointed at."""

    @property
    def url(self) -> str: ...

    def start(self) -> object:
        """Return once it is ready; raises if it does not become so."""

    def kill(self) -> None: ...


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
        """Return once all of them are ready; raises if one is not."""
        raise NotImplementedError

    def launch(self, name: str, *words: str) -> Process:
        """What ``python -m`` runs."""
        self.programs[name] = Process([sys.executable, "-m", *words], self.folder / f"{name}.log", self.env_of(name))
        self.programs[name].launch()
        return self.programs[name]

    def env_of(self, name: str) -> Mapping[str, str]:  # noqa: ARG002  for those whose programs have their own
        return self._env

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.programs.items()}

    def kill(self) -> None:
        """End everything at once; what is stored in the folder stays."""
        for process in self.programs.values():
            process.kill()


class Stack(Programs):
    """A server, and the services; ``env`` is for these: LEASE_SECONDS and the like."""

    def __init__(self, folder: Path, server: Server, env: Mapping[str, str] | None = None) -> None:
        self.server = server
        self.foo_port = free_port()
        self.foo_url = f"http://127.0.0.1:{self.foo_port}/foo"
        super().__init__(folder, {"RESONATE_URL": server.url, "FOO_PORT": str(self.foo_port), **(env or {})})

    @override
    def start(self) -> Self:
        self.server.start()
        for name in SERVICES:
            self.launch(name, name)
        for name in SERVICES:
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
    def kill(self) -> None:
        super().kill()
        self.server.kill()


def wait_until_healthy(process: Process, port: int) -> None:
    """Raises ``RuntimeError`` with what it printed if it ends before."""
    wait_until(lambda: not process.is_running or answers_200(port, "/health"), f"{process.log} is healthy")
    if not process.is_running:
        raise RuntimeError(f"{process.command} ended:\n{process.output()}")
