"""A worker that is called to die or freeze does so only if faults are switched on and it is the one addressed."""

import asyncio
import itertools
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from harness.sdk import adaptable_sdk
from harness.server import ServerProcess
from resonate.context import Context

from worker import RunningWorker, Settings, Worker, faults, log_run

from .test_worker import Group, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("server") / "log").start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def sdk() -> Iterator[None]:
    with adaptable_sdk():
        yield


class Breakable(Group):
    """A group whose workers offer faults."""

    async def offer_faults(self, *functions: Callable[..., object], lease: float = 60) -> str:
        """Start a worker and return its id at the server."""
        settings = Settings(self.server.url, None, timedelta(seconds=lease), 8, None, offers_faults=True)
        running = RunningWorker(Worker(self.name, *functions), settings)
        self._workers.append(running)
        await running.stream.wait_until_connected()
        return running.stream.unicast().rpartition("/")[2]


@pytest.fixture
async def group(server: ServerProcess, tmp_path: Path) -> AsyncIterator[Breakable]:
    group = Breakable(server, tmp_path / "health")
    yield group
    await group.close()


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    return exits


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[str], bool]:
    caplog.set_level(logging.INFO)
    return lambda text: any(text in message for message in caplog.messages)


async def test_by_default_a_worker_cannot_be_called_to_fail(
    group: Breakable, exits: list[int], told: Callable[[str], bool]
) -> None:
    running = await group.work()
    id = group.begin("fail", "kill", running.stream.unicast().rpartition("/")[2])
    await until(lambda: group.task(id)["version"] > 0 and group.task(id)["state"] == "pending")
    assert not told("running function fail")
    assert exits == []


async def test_the_addressed_worker_dies_as_by_sigkill(
    group: Breakable, exits: list[int], told: Callable[[str], bool]
) -> None:
    group.begin("fail", "kill", await group.offer_faults())
    await until(lambda: exits == [137])
    assert told("killing this process, as requested")


async def test_any_other_worker_survives(group: Breakable, exits: list[int]) -> None:
    await group.offer_faults()
    assert await group.result(group.begin("fail", "kill", "another")) == "survived"
    assert exits == []


async def test_an_unknown_fault_is_refused(group: Breakable, exits: list[int]) -> None:
    message = (await group.result(group.begin("fail", "explode", await group.offer_faults())))["message"]
    assert "explode" in message
    assert exits == []


async def test_at_work_it_dies_only_when_a_step_runs(
    group: Breakable, exits: list[int], told: Callable[[str], bool]
) -> None:
    waits, works = asyncio.Event(), asyncio.Event()

    async def step(ctx: Context) -> None:
        log_run(ctx)
        works.set()
        await until(lambda: exits == [137])

    async def order(ctx: Context) -> str:
        log_run(ctx)
        await waits.wait()
        await ctx.run(step)
        return "done"

    pid = await group.offer_faults(order)
    id = group.begin("order")
    await until(lambda: told("running function order"))
    group.begin("fail", "kill-at-work", pid)
    await until(lambda: told("running function fail"))
    await asyncio.sleep(2 * faults.ANSWER_SECONDS)
    assert exits == [], "a function that waits is not at work"
    waits.set()
    assert await group.result(id) == "done"
    assert works.is_set()


async def test_if_no_step_runs_nobody_dies(group: Breakable, exits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "WORK_SECONDS", 0.1)
    id = group.begin("fail", "kill-at-work", await group.offer_faults())
    assert await group.result(id) == "not killed: no step has run within 0 s"
    assert exits == []


async def test_a_frozen_worker_loses_its_lease_and_the_repeated_call_does_not_freeze_it_again(
    group: Breakable, told: Callable[[str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze = faults.freeze

    def freeze_until_the_lease_has_ended(_: int) -> None:
        while group.task(call)["state"] == "acquired":
            freeze(2)

    monkeypatch.setattr(faults, "freeze", freeze_until_the_lease_has_ended)
    call = group.begin("fail", "freeze", await group.offer_faults(lease=1))
    assert await group.result(call) == "survived"
    assert told("lease lost")
    assert told("freezing this process for 2 s, as requested")


async def test_a_worker_frozen_within_its_lease_continues(group: Breakable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "FREEZE_SECONDS", 1)
    assert await group.result(group.begin("fail", "freeze", await group.offer_faults())) == "frozen for 1 s"


def test_a_freeze_stops_every_thread() -> None:
    seen, over = [time.monotonic()], threading.Event()

    def live() -> None:
        while not over.wait(0.001):
            seen.append(time.monotonic())

    thread = threading.Thread(target=live)
    thread.start()
    faults.freeze(1)
    over.set()
    thread.join()
    seen.append(time.monotonic())
    assert max(after - before for before, after in itertools.pairwise(seen)) >= 1
