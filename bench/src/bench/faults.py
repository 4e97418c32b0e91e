"""Scenarios of `bench recovery`: one chain, one fault, and the seconds until the chain's answer.

A scenario is a function of a running stack; it leaves all programs running. That the answer is right, and that
nothing ran more often than the fault explains, is checked by each. How often trials are made, and what becomes of their
figures, is none of its business.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self, override

import psutil
from harness.process import Process
from harness.services import runs
from msgspec import Struct

from bench.load import WrongAnswers
from bench.report import Target
from bench.slow_baz import SECONDS_VARIABLE
from bench.stack import CONNECTED, OwnServer, Stack
from bench.witness import Call, ServerLog, Spend, TooLate, is_suspended, moment_when, pause_end
from worker.beside import HEARTBEATS_PER_LEASE

PAUSE_SECONDS = 0.8
JITTER_SECONDS = 0.2
"""The fault hits a suspended chain so long after its suspension, at most."""
AFTER_PAUSE_SECONDS = 0.05
"""So long after the pause's end is a program started again: then nothing is left to wait for."""
KILL_WINDOW_SECONDS = 0.4
REST_SECONDS = 0.3
"""Work that is left, at least, when the fault hits it."""
BAZ_SECONDS = 1.0
IN_FLIGHT = 4
"""Chains that a killed server has to go on with."""
ANSWER_SECONDS = 60.0
"""Beyond the lease: an answer that takes longer is counted as lost."""


class Timing(Struct, frozen=True):
    """How soon the death of a worker is noticed; ``server``: settings of the server, as environment variables."""

    name: str
    lease_seconds: int
    server: Mapping[str, str]
    kill_window_seconds: float
    """A worker is killed so long after it has begun its work, at most."""

    @property
    def heartbeat_seconds(self) -> float:
        """Between two heartbeats: a frozen worker's lease is by so much shorter, at most."""
        return self.lease_seconds / HEARTBEATS_PER_LEASE


class Cast(Struct, frozen=True):
    """Which programs run beside server, foo, bar and baz, or instead of them."""

    standby: str = ""
    """A second ``bar`` or ``baz``, to take over from the first."""
    slow_baz: bool = False


class Stage(Stack):
    """A stack on which things happen, and on which they are seen."""

    def __init__(self, folder: Path, timing: Timing, cast: Cast) -> None:
        folder.mkdir(parents=True)
        self.own_server = OwnServer(folder, {"RESONATE_LOG_FORMAT": "json", **timing.server})
        env = {"LEASE_SECONDS": str(timing.lease_seconds), SECONDS_VARIABLE: str(BAZ_SECONDS)}
        super().__init__(folder, self.own_server, env)
        self.server_log = ServerLog(self.own_server.log)
        self.timing = timing
        self._cast = cast
        self._numbers = count(1)

    @override
    def start(self) -> Self:
        super().start()
        if self._cast.standby:
            self.add(self.second, self._cast.standby)
            self.wait_until_connected(self.second)
        return self

    @override
    def add(self, name: str, module: str | None = None) -> Process:
        service = module or name
        return super().add(name, "bench.slow_baz" if service == "baz" and self._cast.slow_baz else service)

    @property
    def second(self) -> str:
        """The name of the program that stands by."""
        return f"{self._cast.standby}-2"

    # ── chains ──

    def call(self, pause: float = 0, running: float = 0) -> Call:
        """Send a request to foo; its id is new."""
        return Call(self.foo_port, f"{self.folder.name}-{next(self._numbers)}", Spend(pause, running))

    def ask_again(self, call: Call) -> Call:
        """Send the same request once more, again and again until foo is there."""
        return Call(self.foo_port, call.id, Spend(PAUSE_SECONDS), persistent=True)

    def pausing_call(self) -> Call:
        """Send a request, and return when its bar is suspended.

        Raises :class:`TooLate` if its pause is nearly over by then.
        """
        call = self.call(pause=PAUSE_SECONDS)
        client = self.own_server.client()
        self.wait_for(
            call, lambda: pause_end(client, call.id) and is_suspended(client, _bar_task(call)), "bar is suspended"
        )
        if call.is_over or self.pause_end(call) - JITTER_SECONDS < time.time():
            raise TooLate
        return call

    def wait_for(self, call: Call, condition: Callable[[], object], what: str) -> None:
        """Until the condition is true, or the call is over. Raises what broke the call, if it broke."""
        moment_when(lambda: call.is_over or condition(), what)
        if call.is_over:
            self.answered(call)

    def pause_end(self, call: Call) -> float:
        """When the pause of a call's bar ends, or ended."""
        end = pause_end(self.own_server.client(), call.id)
        assert end is not None, "it has begun"
        return end

    def answered(self, call: Call) -> float:
        """The moment of its answer. Raises :class:`WrongAnswers` if it is wrong or missing."""
        try:
            return call.answered(self.timing.lease_seconds + ANSWER_SECONDS)
        except TimeoutError:
            raise WrongAnswers(f"{call.id} was never answered; see {self.folder}") from None

    def who_runs(self, function: str, call: Call, promise_id: str) -> str:
        """The name of the program that runs the function for a promise of the call, as soon as one does."""
        self.wait_for(call, lambda: self._runners(function, promise_id), f"{function} runs for {promise_id}")
        return self._runners(function, promise_id)[0]

    def expect_runs_of_baz(self, call: Call, times: int) -> None:
        """Raises :class:`WrongAnswers` if baz ran more or less often for a call."""
        seen = sum(runs(process, "baz", f"{call.id}:") for process in self.services.values())
        if seen != times:
            raise WrongAnswers(f"{call.id}: baz ran {seen} times instead of {times}; see {self.folder}")

    def _runners(self, function: str, promise_id: str) -> list[str]:
        return [name for name, process in self.services.items() if runs(process, function, promise_id)]

    # ── faults ──

    def kill(self, name: str) -> float:
        """SIGKILL to a program and its children; the moment of it."""
        process = self.services[name]
        members = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        moment = time.time()
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        return moment

    def launch(self, name: str) -> float:
        """Start a killed program again, waiting for nothing; the moment of it."""
        moment = time.time()
        self.services[name].launch()
        return moment

    def restore(self, name: str) -> None:
        """Start a killed program again; return when it is connected."""
        connected = self.services[name].output().count(CONNECTED)
        self.launch(name)
        self.wait_until_connected(name, times=connected + 1)


type Measures = dict[str, float]
"""Seconds, by what was measured."""


class Scenario(Struct, frozen=True):
    """``play`` makes one trial; raises :class:`WrongAnswers` or :class:`TooLate`."""

    name: str
    play: Callable[[Stage, random.Random], Measures]
    cast: Cast = Cast()
    mostly_waits: bool = False
    """Its time goes by in waiting for a lease or the like: trials do not disturb each other."""
    targets: Mapping[str, Target] = {}
    """By what is measured."""


def _bar_task(call: Call) -> str:
    return f"{call.id}:1"


def _baz_task(call: Call) -> str:
    return f"{_bar_task(call)}.1"


def _wait_until_over(pause_end: float) -> None:
    time.sleep(max(pause_end + AFTER_PAUSE_SECONDS - time.time(), 0))


# ── killed while suspended ──


def kill_suspended_bar(stage: Stage, chance: random.Random) -> Measures:
    """The killed bar held nothing: the new one is told of the task when it connects."""
    call = stage.pausing_call()
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    stage.kill("bar")
    _wait_until_over(stage.pause_end(call))
    started = stage.launch("bar")
    answered = stage.answered(call)
    connected = stage.server_log.moment_of("worker connected: service-bar/", since=started)
    stage.expect_runs_of_baz(call, 1)
    return {"its reconnect to the answer": answered - connected, "its start to the answer": answered - started}


def kill_foo(stage: Stage, chance: random.Random) -> Measures:
    """The caller's connection dies with foo; the chain does not, and the same key joins it."""
    call = stage.pausing_call()
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    stage.kill("foo")
    _wait_until_over(stage.pause_end(call))
    started = stage.launch("foo")
    answered = stage.answered(stage.ask_again(call))
    stage.expect_runs_of_baz(call, 1)
    return {"its start to the answer": answered - started}


def kill_server(stage: Stage, chance: random.Random) -> Measures:
    """Everything acknowledged is on disk; the workers come back by themselves."""
    calls = [stage.call(pause=PAUSE_SECONDS) for _ in range(IN_FLIGHT - 1)]
    calls.append(stage.pausing_call())
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    ends = [stage.pause_end(call) for call in calls]
    server = stage.own_server
    server.kill()
    _wait_until_over(max(ends))
    started = time.time()
    server.launch()
    ready = moment_when(server.is_ready, f"the server is ready: see {server.log}")
    answered = max(map(stage.answered, calls))
    for call in calls:
        stage.expect_runs_of_baz(call, 1)
    return {"its start to the last answer": answered - started, "its start to ready": ready - started}


# ── killed or frozen while running ──


def kill_running_bar_beside_another(stage: Stage, chance: random.Random) -> Measures:
    window = stage.timing.kill_window_seconds
    work = window + REST_SECONDS
    call = stage.call(running=work)
    killed_one = stage.who_runs("work", call, _bar_task(call))
    time.sleep(chance.uniform(0, window))
    killed = stage.kill(killed_one)
    measures = _since_fault(stage, call, _bar_task(call), "the kill", killed, work)
    stage.restore(killed_one)
    stage.expect_runs_of_baz(call, 1)
    return measures


def kill_running_bar(stage: Stage, chance: random.Random) -> Measures:
    window = stage.timing.kill_window_seconds
    work = window + REST_SECONDS
    call = stage.call(running=work)
    stage.who_runs("work", call, _bar_task(call))
    time.sleep(chance.uniform(0, window))
    stage.kill("bar")
    started = stage.launch("bar")
    answered = stage.answered(call) - work
    stage.expect_runs_of_baz(call, 1)
    return {"its start to the answer": answered - started}


def freeze_running_bar(stage: Stage, chance: random.Random) -> Measures:
    """Its stream stays open, so that only its lease tells; how much of that is left, the last heartbeat decides."""
    window = stage.timing.heartbeat_seconds
    work = window + REST_SECONDS
    call = stage.call(running=work)
    frozen_one = stage.who_runs("work", call, _bar_task(call))
    time.sleep(chance.uniform(0, window))
    frozen = time.time()
    stage.services[frozen_one].freeze()
    measures = _since_fault(stage, call, _bar_task(call), "the freeze", frozen, work)
    stage.kill(frozen_one)
    stage.restore(frozen_one)
    stage.expect_runs_of_baz(call, 1)
    return measures


def kill_running_baz_beside_another(stage: Stage, chance: random.Random) -> Measures:
    call = stage.call()
    killed_one = stage.who_runs("baz", call, _baz_task(call))
    time.sleep(chance.uniform(0, BAZ_SECONDS - REST_SECONDS))
    killed = stage.kill(killed_one)
    measures = _since_fault(stage, call, _baz_task(call), "the kill", killed, BAZ_SECONDS)
    stage.restore(killed_one)
    stage.expect_runs_of_baz(call, 2)
    return measures


def kill_running_baz(stage: Stage, chance: random.Random) -> Measures:
    call = stage.call()
    stage.who_runs("baz", call, _baz_task(call))
    time.sleep(chance.uniform(0, BAZ_SECONDS - REST_SECONDS))
    stage.kill("baz")
    started = stage.launch("baz")
    answered = stage.answered(call) - BAZ_SECONDS
    stage.expect_runs_of_baz(call, 2)
    return {"its start to the answer": answered - started}


def _since_fault(stage: Stage, call: Call, task_id: str, what: str, moment: float, work: float) -> Measures:
    """The work that is done again is not counted."""
    answered = stage.answered(call) - work
    lease_end = stage.server_log.moment_of(f"lease lost: task {task_id},", since=moment)
    return {
        f"{what} to the answer": answered - moment,
        f"{what} to the end of its lease": lease_end - moment,
        "the end of its lease to the answer": answered - lease_end,
    }


SCENARIOS = (
    Scenario("bar killed while suspended", kill_suspended_bar, targets={"its reconnect to the answer": Target(0.1)}),
    Scenario("foo killed and asked again", kill_foo),
    Scenario("server killed", kill_server, targets={"its start to the last answer": Target(3)}),
    Scenario(
        "bar killed at work, another standing by",
        kill_running_bar_beside_another,
        Cast("bar"),
        mostly_waits=True,
        targets={"the kill to the answer": Target(4)},
    ),
    Scenario("bar killed at work, started again", kill_running_bar, mostly_waits=True),
    Scenario(
        "bar frozen at work, another standing by",
        freeze_running_bar,
        Cast("bar"),
        mostly_waits=True,
        targets={"the freeze to the answer": Target(10.5)},
    ),
    Scenario(
        "baz killed at work, another standing by", kill_running_baz_beside_another, Cast("baz", True), mostly_waits=True
    ),
    Scenario("baz killed at work, started again", kill_running_baz, Cast(slow_baz=True), mostly_waits=True),
)
