"""Programs on a given SDK and version: workers that tests start and kill, and clients that tests direct."""

import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from harness.basics import wait_until
from harness.server import ServerProcess
from msgspec import Struct, field

PATIENCE = 60.0
"""Seconds until a test gives up on something that is instantaneous on an idle machine."""


class Sdk(Struct, frozen=True):
    """An SDK at one version, and the command that starts its program."""

    language: str
    version: str
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.language}-{self.version}"

    @property
    def group(self) -> str:
        return f"workers-{self.name}"


class Outcome(Struct, frozen=True):
    """The outcome of a client's action: ``value``, or the class name and text of an exception."""

    value: Any = None
    error: str = ""
    message: str = ""


class Process:
    """The program on one SDK, as a worker or a client, with stdout and stderr in files side by side."""

    def __init__(self, sdk: Sdk, log: Path, url: str, *arguments: str) -> None:
        self._numbers = itertools.count()
        self._output, self._errors = log.with_suffix(".out"), log.with_suffix(".err")
        with self._output.open("ab") as output, self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [*sdk.command, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                env={**os.environ, "RESONATE_URL": url},
            )

    @property
    def lines(self) -> list[str]:
        """The lines of its stdout. Not ``splitlines``, which splits at more than LF."""
        return self._output.read_text().split("\n")[:-1]

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def runs(self, function: str, promise: str = "") -> int:
        """Return how often ``function`` began to run, for promises whose id starts with ``promise``."""
        marker = f"running function {function}  promise={promise}"
        return sum(line.startswith(marker) for line in self.lines)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=PATIENCE)
        assert self._process.stdin
        self._process.stdin.close()

    def finish(self) -> int:
        """Close its stdin; return its exit status once it has ended by itself."""
        assert self._process.stdin
        self._process.stdin.close()
        return self._process.wait(timeout=PATIENCE)

    def begin(self, action: str, *arguments: Any) -> "Call":
        """Let a client start an action, without waiting for its outcome."""
        number = next(self._numbers)
        assert self._process.stdin
        self._process.stdin.write(json.dumps([number, action, arguments]).encode() + b"\n")
        self._process.stdin.flush()
        return Call(self, number)

    def do(self, action: str, *arguments: Any) -> Outcome:
        return self.begin(action, *arguments).outcome()


class Call(Struct, frozen=True):
    """A client's action in flight."""

    client: Process
    number: int

    def outcome(self) -> Outcome:
        return wait_until(self._outcome, "the call has come to an end")

    def _outcome(self) -> Outcome | None:
        answers = (json.loads(line) for line in self.client.lines if line.startswith("{"))
        return next((Outcome(**answer) for answer in answers if answer.pop("number") == self.number), None)


class Site(Struct):
    """A server and the processes that talk to it."""

    server: ServerProcess
    folder: Path
    processes: list[Process] = field(default_factory=list)
    callers: dict[str, Process] = field(default_factory=dict)
    """One client for each SDK, by its name; it makes the calls of tests that do not use a client of their own."""
    standing: set[str] = field(default_factory=set)
    """Names of the SDKs that have a standing worker."""

    def worker(self, sdk: Sdk, group: str = "", lease_seconds: float = 60) -> Process:
        """Return once it serves, which is after it has imported the SDK."""
        worker = self._start(sdk, "worker", group or sdk.group, str(lease_seconds))
        said = wait_until(lambda: worker.lines[:1], "the worker says something")
        assert said[0].startswith(f"resonate-sdk {sdk.version} serves"), said
        return worker

    def stand(self, sdk: Sdk) -> None:
        if sdk.name not in self.standing:
            self.worker(sdk)
            self.standing.add(sdk.name)

    def new_caller(self, sdk: Sdk, group: str) -> Process:
        return self._start(sdk, "client", group)

    def caller(self, sdk: Sdk) -> Process:
        if sdk.name not in self.callers:
            self.callers[sdk.name] = self.new_caller(sdk, f"callers-{sdk.name}")
        return self.callers[sdk.name]

    def do(self, sdk: Sdk, action: str, *arguments: Any) -> Outcome:
        return self.caller(sdk).do(action, *arguments)

    def begin_rpc(self, sdk: Sdk, id: str, function: str, *arguments: Any) -> Call:
        """Call a worker on the same SDK."""
        return self.caller(sdk).begin("rpc", sdk.group, id, function, *arguments)

    def rpc(self, sdk: Sdk, id: str, function: str, *arguments: Any) -> Outcome:
        return self.begin_rpc(sdk, id, function, *arguments).outcome()

    def promises(self, **tags: str) -> list[dict[str, Any]]:
        """Return the promises with these tags, named without their ``resonate:`` prefix."""
        wanted = {f"resonate:{name}": value for name, value in tags.items()}
        reply = self.server.client().call("promise.search", tags=wanted, limit=1_000)
        found: list[dict[str, Any]] = reply.data["promises"]
        return found

    def state_of_task(self, id: str) -> str:
        """Return ``none`` if there is no such task."""
        return str(self._task(id).get("state", "none"))

    def claims(self, id: str) -> int:
        """Return how often a worker has claimed this task."""
        return int(self._task(id).get("version", 0))

    def wait_until_suspended(self, id: str) -> None:
        wait_until(lambda: self.state_of_task(id) == "suspended", f"{id} is suspended")

    def awaited_promise(self, id: str) -> str:
        """Wait until the function of ``id`` waits for exactly one promise, and return that one's id."""
        self.wait_until_suspended(id)
        (child,) = [promise["id"] for promise in self.promises(parent=id) if promise["id"] != id]
        return str(child)

    def runs(self, function: str, promise: str) -> int:
        """Return the number of runs in all processes together."""
        return sum(process.runs(function, promise) for process in self.processes)

    def at_work(self, promise: str) -> list[Process]:
        return [process for process in self.processes if process.runs("wait_for_file", promise)]

    def wait_until_at_work(self, promise: str, number: int = 1) -> None:
        wait_until(lambda: len(self.at_work(promise)) == number, f"{number} workers have begun {promise}")

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.server.kill()

    def report(self) -> str:
        """Return the output of all processes, for diagnosing a failure."""
        said = [f"── server ──\n{self.server.log.read_text()}"]
        for number, process in enumerate(self.processes):
            lines = "\n".join(line[:200] for line in process.lines)
            said.append(f"── process {number} ──\n{lines}\n{process.errors}")
        return "\n".join(said)

    def _task(self, id: str) -> dict[str, Any]:
        reply = self.server.client().call("task.get", id=id)
        return dict(reply.data["task"]) if reply.status == 200 else {}

    def _start(self, sdk: Sdk, role: str, *arguments: str) -> Process:
        log = self.folder / f"{role}-{sdk.name}-{len(self.processes)}.log"
        process = Process(sdk, log, self.server.url, role, *arguments)
        self.processes.append(process)
        return process
