"""The demo's services as processes on free ports in a folder of their own: start, watch, kill and restart them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, override

from harness.basics import answers_200, free_port, wait_until
from harness.foo import Foo
from harness.process import Process
from harness.services import CONNECTED, SERVICES


class Server(Protocol):
    """A Resonate server that the services can be pointed at."""

    @property
    def url(self) -> str: ...

    def start(self) -> object:
        """Return once it is ready; raise if it does not become so."""

    def kill(self) -> None: ...


class Programs:
    """Programs by name, with their logs in ``folder``. They all share ``env``, added to this process's environment."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.programs: dict[str, Process] = {}
        self._env = env

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Return once all of them are ready; raise if one is not."""
        raise NotImplementedError

    def launch(self, name: str, *words: str, **env: str) -> Process:
        """Start a Python program; ``words`` are its file or module and arguments, by default the module ``name``."""
        program = words or (name,)
        command = [sys.executable, *(program if program[0].endswith(".py") else ("-m", *program))]
        process = Process(command, self.folder / f"{name}.log", {**self.env_of(name), **env})
        self.programs[name] = process.launch()
        return process

    def env_of(self, name: str) -> Mapping[str, str]:  # noqa: ARG002  for subclasses whose programs differ
        return self._env

    def pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in self.programs.items()}

    def printed(self) -> str:
        """Return the output of all of them, in the order in which they were started."""
        return "".join(process.output() for process in self.programs.values())

    def close(self) -> None:
        """Kill all programs at once; keep what is stored in the folder."""
        for process in self.programs.values():
            process.kill()


class Stack(Programs, Foo):
    """A server and the services; ``env`` is for the services, such as LEASE_SECONDS."""

    def __init__(self, folder: Path, server: Server, env: Mapping[str, str] | None = None) -> None:
        Foo.__init__(self, free_port())
        Programs.__init__(self, folder, env or {})
        self.server = server
        self.foo_url = f"http://127.0.0.1:{self.foo_port}/foo"

    @override
    def env_of(self, name: str) -> Mapping[str, str]:
        return {"RESONATE_URL": self.server.url, "FOO_PORT": str(self.foo_port), **super().env_of(name)}

    @override
    def start(self) -> Self:
        self.server.start()
        for name in SERVICES:
            self.launch(name, name)
        for name in SERVICES:
            self.wait_until_connected(name)
        return self

    def begin(self, name: str, *words: str, **env: str) -> Process:
        """Start another instance beside those with that name: ``bar-2`` after ``bar``."""
        number = sum(each.partition("-")[0] == name for each in self.programs)
        return self.launch(f"{name}-{number + 1}" if number else name, *(words or (name,)), **env)

    def program(self, name: str) -> Process:
        """Return the newest instance with that name."""
        return next(self.programs[each] for each in reversed(self.programs) if each.partition("-")[0] == name)

    def connections(self, name: str) -> int:
        """Return how often the program has reported that it is connected."""
        return self.programs[name].count(CONNECTED)

    def wait_until_connected(self, name: str, before: int = 0) -> None:
        """Wait until the program has connected more than ``before`` times, and, if it is foo, serves requests."""
        process = self.programs[name]
        wait_until(lambda: not process.is_running or self.connections(name) > before, f"{name} is connected")
        if name == "foo" or not process.is_running:
            wait_until_healthy(process, self.foo_port)

    @override
    def close(self) -> None:
        super().close()
        self.server.kill()


def wait_until_healthy(process: Process, port: int) -> None:
    """Raise ``RuntimeError`` with the output of the process if it ends first."""
    wait_until(lambda: not process.is_running or answers_200(port, "/health"), f"{process.log} is healthy")
    if not process.is_running:
        raise RuntimeError(f"{process.command} ended:\n{process.output()}")
