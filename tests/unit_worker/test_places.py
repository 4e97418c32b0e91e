"""A worker reports when all its places are taken, and when they no longer are."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from worker import worker
from worker.worker import report_full

LOOK = 0.05


class Tasks:
    """The number of running tasks."""

    def __init__(self) -> None:
        self.running = 0


@pytest.fixture
async def tasks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Tasks]:
    """The tasks of a worker with three places."""
    monkeypatch.setattr(worker, "LOOK_SECONDS", LOOK)
    caplog.set_level(logging.INFO)
    tasks = Tasks()
    reporting = asyncio.create_task(report_full(lambda: tasks.running, 3))
    yield tasks
    reporting.cancel()


async def until(caplog: pytest.LogCaptureFixture, lines: int) -> None:
    async with asyncio.timeout(60):
        while len(caplog.messages) < lines:
            await asyncio.sleep(0.01)
    await asyncio.sleep(4 * LOOK)  # for lines that should not come


async def test_each_change_is_logged_once(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    tasks.running = 3
    await until(caplog, 1)
    tasks.running = 2
    await until(caplog, 2)
    tasks.running = 3
    await until(caplog, 3)

    full = "all 3 places are taken; further tasks wait for one (see MAX_TASKS)"
    assert caplog.messages == [full, "not all 3 places are taken any more", full]


async def test_a_worker_with_a_free_place_logs_nothing(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    tasks.running = 2
    await until(caplog, 0)
    assert caplog.messages == []


async def test_a_change_that_does_not_last_is_not_logged(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    """On a busy worker, places are freed and taken all the time."""
    counts = iter([3, 2] * 100)
    del tasks
    reporting = asyncio.create_task(report_full(lambda: next(counts), 3))
    await until(caplog, 0)
    reporting.cancel()
    assert caplog.messages == []
