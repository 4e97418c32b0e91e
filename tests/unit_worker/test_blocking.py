"""A function that blocks the event loop is told of: without a word its task would go round for ever."""

import asyncio
import time

import pytest

from worker.blocking import LOOK_SECONDS, report_blocking


async def watch(seconds_blocked: float, lease_seconds: float) -> None:
    watching = asyncio.create_task(report_blocking(lease_seconds))
    await asyncio.sleep(0.05)
    time.sleep(seconds_blocked)  # noqa: ASYNC251  this is what is to be noticed
    await asyncio.sleep(0.05)
    watching.cancel()


async def test_a_loop_that_stood_still_for_long_is_reported_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    await watch(seconds_blocked=LOOK_SECONDS + 0.6, lease_seconds=1)

    assert "blocked" in caplog.text
    assert "asyncio.sleep" in caplog.text


async def test_a_pause_that_endangers_no_lease_is_not(caplog: pytest.LogCaptureFixture) -> None:
    await watch(seconds_blocked=LOOK_SECONDS + 0.2, lease_seconds=10)

    assert caplog.text == ""
