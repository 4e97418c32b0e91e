"""What is compared with each other at answering `POST /foo`, and one phase of load on one of them."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self

from msgspec import Struct

from bench import server_metrics
from bench.load import Generator, Job, Result
from bench.plain.stack import PlainStack
from bench.server_metrics import Counts
from bench.stack import CommandServer, OwnServer, RunningServer, Server, Stack
from bench.usage import Meter, Usage

OWN = "our stack"
PLAIN = "plain chain"
OTHER_BY_URL = "server by URL"
OTHER_BY_COMMAND = "server by command"
SERVER = OwnServer.name
"""The process of whatever Resonate server a contender has."""


class Phase(Struct, frozen=True):
    """``usage`` by process; ``counts`` of our server, ``None`` of others."""

    contender: str
    in_flight: int
    result: Result
    usage: dict[str, Usage]
    counts: Counts | None

    @property
    def chains(self) -> int:
        return len(self.result.latencies_s)

    def cpu_ms_per_chain(self, process: str) -> float:
        return 1_000 * self.usage[process].cpu_seconds / self.chains


class _Runs(Protocol):
    foo_url: str

    def start(self) -> Self: ...

    def pids(self) -> dict[str, int]: ...

    def stop(self) -> None: ...


class Contender:
    """A chain of three services that runs."""

    def __init__(self, name: str, stack: _Runs, metrics_url: str | None = None) -> None:
        self.name = name
        self._stack = stack
        self._metrics_url = metrics_url

    def start(self) -> None:
        self._stack.start()

    def stop(self) -> None:
        self._stack.stop()

    def phase(self, generator: Generator, in_flight: int, seconds: float) -> Phase:
        """Raises `bench.load.WrongAnswers`."""
        meter, before = Meter(self._stack.pids()), self._counts()
        result = generator.run(Job(f"{self._stack.foo_url}/foo", in_flight, seconds))
        after = self._counts()
        counts = after.since(before) if after is not None and before is not None else None
        return Phase(self.name, in_flight, result, meter.read(), counts)

    def _counts(self) -> Counts | None:
        return None if self._metrics_url is None else server_metrics.read(self._metrics_url)


def start_contenders(running: ExitStack, folder: Path, server_url: str, server_command: str) -> dict[str, Contender]:
    """Our stack, the plain chain, and our services on each other server that is given; ``running`` ends them."""
    makers: dict[str, Callable[[Path], Contender]] = {OWN: _own, PLAIN: _plain}
    if server_url:
        makers[OTHER_BY_URL] = lambda place: _on_server(OTHER_BY_URL, place, RunningServer(SERVER, server_url))
    if server_command:
        makers[OTHER_BY_COMMAND] = lambda place: _on_server(
            OTHER_BY_COMMAND, place, CommandServer(SERVER, server_command, place)
        )
    contenders = {}
    for name, make in makers.items():
        place = folder / name.replace(" ", "-")
        place.mkdir(parents=True)
        contenders[name] = make(place)
        running.callback(contenders[name].stop)
        contenders[name].start()
    return contenders


def _own(folder: Path) -> Contender:
    server = OwnServer(folder)
    return Contender(OWN, Stack(folder, server), server.metrics_url)


def _plain(folder: Path) -> Contender:
    return Contender(PLAIN, PlainStack(folder))


def _on_server(name: str, folder: Path, server: Server) -> Contender:
    return Contender(name, Stack(folder, server))
