"""A worker that is called to die or freeze does so only if faults are switched on and it is the one addressed."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable

import pytest
from resonate.context import Context

from worker import RunningWorker, faults, log_run

from .group import Group, Told, until


async def breakable(group: Group, *functions: Callable[..., object], lease: float = 60) -> str:
    """Start a worker that offers faults, and return its id at the server."""
    return id_of(await group.work(*functions, lease=lease, offers_faults=True))


def id_of(running: RunningWorker) -> str:
    return running.stream.unicast().rpartition("/")[2]


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended."""
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    return exits


async def test_by_default_a_worker_cannot_be_called_to_fail(group: Group, exits: list[int], told: Told) -> None:
    running = await group.work()
    id = group.begin("fail", "kill", id_of(running))
    await until(lambda: group.task(id)["version"] > 0 and group.task(id)["state"] == "pending")
    assert not told("running function fail")
    assert exits == []


async def test_the_addressed_worker_dies_as_by_sigkill(group: Group, exits: list[int], told: Told) -> None:
    group.begin("fail", "kill", await breakable(group))
    await until(lambda: exits == [137])
    assert told("killing this process, as requested")


async def test_any_other_worker_survives_and_an_unknown_fault_is_refused(group: Group, exits: list[int]) -> None:
    pid = await breakable(group)
    assert await group.result(group.begin("fail", "kill", "another")) == "survived"
    assert "explode" in (await group.result(group.begin("fail", "explode", pid)))["message"]
    assert exits == []


async def test_at_work_it_dies_only_when_a_step_runs(group: Group, exits: list[int], told: Told) -> None:
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

    pid = await breakable(group, order)
    id = group.begin("order")
    await until(lambda: told("running function order"))
    group.begin("fail", "kill-at-work", pid)
    await until(lambda: told("running function fail"))
    await asyncio.sleep(2 * faults.ANSWER_SECONDS)
    assert exits == [], "a function that waits is not at work"
    waits.set()
    assert await group.result(id) == "done"
    assert works.is_set()


async def test_if_no_step_runs_nobody_dies(group: Group, exits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "WORK_SECONDS", 0.1)
    id = group.begin("fail", "kill-at-work", await breakable(group))
    assert await group.result(id) == "not killed: no step has run within 0 s"
    assert exits == []


async def test_a_frozen_worker_loses_its_lease_and_the_repeated_call_does_not_freeze_it_again(
    group: Group, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze = faults.freeze

    def freeze_until_the_lease_has_ended(_: int) -> None:
        while group.task(call)["state"] == "acquired":
            freeze(2)

    monkeypatch.setattr(faults, "freeze", freeze_until_the_lease_has_ended)
    call = group.begin("fail", "freeze", await breakable(group, lease=1))
    assert await group.result(call) == "survived"
    assert told("lease lost")
    assert told("freezing this process for 2 s, as requested")


async def test_a_worker_frozen_within_its_lease_continues(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "FREEZE_SECONDS", 1)
    assert await group.result(group.begin("fail", "freeze", await breakable(group))) == "frozen for 1 s"


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
