"""The plain chain as processes on free ports."""

import sys
from pathlib import Path
from typing import Self

from harness.basics import answers_200, free_port, wait_until
from harness.process import Process

from bench.plain.serving import NEXT_URL, PORT
from bench.stack import START_SECONDS

CHAIN = ("foo", "bar", "baz")


class PlainStack:
    """foo, bar and baz of `bench.plain`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ports = {name: free_port() for name in CHAIN}
        self._services = {name: self._service(name, folder / f"{name}.log") for name in CHAIN}
        self.foo_url = f"http://127.0.0.1:{self._ports['foo']}"

    def start(self) -> Self:
        for service in self._services.values():
            service.launch()
        for name, port in self._ports.items():
            wait_until(lambda port=port: answers_200(port, "/health"), f"{name} answers", START_SECONDS)  # type: ignore[misc]
        return self

    def pids(self) -> dict[str, int]:
        return {name: service.pid for name, service in self._services.items()}

    def stop(self) -> None:
        for service in self._services.values():
            service.kill()

    def _service(self, name: str, log: Path) -> Process:
        env = {PORT: str(self._ports[name])}
        following = CHAIN[CHAIN.index(name) + 1 :]
        if following:
            env[NEXT_URL] = f"http://127.0.0.1:{self._ports[following[0]]}/{following[0]}"
        return Process([sys.executable, "-m", f"bench.plain.{name}"], log, env)
