"""A function that blocks the event loop is told of by its name, and how long it was."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from harness.basics import hold_interpreter
from resonate.context import Context
from resonate.durable import DurableFunction
from resonate.types import Args

from worker import blocking, heartbeat
from worker.blocking import BlockWatch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "LOOK_SECONDS", 0.1)


@pytest.fixture
def context() -> Context:
    """Nothing here looks at it."""
    return cast("Context", None)


async def watched(run: Callable[[], Any], lease_seconds: float) -> None:
    """Run something while a thread watches this event loop."""
    watch = BlockWatch(lease_seconds)
    watching: list[asyncio.Task[Any]] = []

    async def on_the_thread() -> None:
        watching.append(asyncio.ensure_future(watch.run()))
        await asyncio.wait(watching)

    thread = threading.Thread(target=asyncio.run, args=[on_the_thread()])
    thread.start()
    while not watching:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    result = run()
    if asyncio.iscoroutine(result):
        await result
    await asyncio.sleep(0.5)
    watching[0].get_loop().call_soon_threadsafe(watching[0].cancel)
    await asyncio.to_thread(thread.join)


def plain(ctx: Context) -> None:  # noqa: ARG001
    somewhere_deep()


async def asynchronous(ctx: Context) -> None:  # noqa: ARG001
    await asyncio.sleep(0)
    somewhere_deep()


def somewhere_deep() -> None:
    time.sleep(1)


@pytest.mark.parametrize("function", [plain, asynchronous])
async def test_the_durable_function_is_named_however_deep_it_blocks(
    function: Callable[..., Any], context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    await watched(lambda: DurableFunction(function).invoke(context, Args()), lease_seconds=1)

    while_blocked, afterwards = caplog.messages
    assert while_blocked.startswith(f"function {function.__name__} (test_blocking.py, line ")
    assert "blocks the event loop" in while_blocked
    assert "asyncio.sleep" in while_blocked
    assert afterwards.startswith(f"function {function.__name__} (test_blocking.py, line ")
    assert afterwards.endswith(" s")


def holding_the_interpreter(ctx: Context) -> None:  # noqa: ARG001
    hold_interpreter(2)  # no other thread runs meanwhile: they learn of it afterwards


async def test_so_is_one_that_stops_all_threads(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    await watched(lambda: DurableFunction(holding_the_interpreter).invoke(context, Args()), lease_seconds=0.3)
    assert caplog.messages[0].startswith("function holding_the_interpreter (test_blocking.py, line ")


async def test_where_it_is_not_a_durable_function_its_place_is_told(caplog: pytest.LogCaptureFixture) -> None:
    await watched(somewhere_deep, lease_seconds=1)
    assert caplog.messages[0].startswith("function somewhere_deep (test_blocking.py, line ")


async def test_the_end_of_the_patience_is_told(
    context: Context, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "KEEP_SECONDS", 0.6)
    await watched(lambda: DurableFunction(plain).invoke(context, Args()), lease_seconds=0.5)
    assert [message for message in caplog.messages if "not kept any longer" in message]


async def test_a_pause_that_endangers_no_lease_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    await watched(somewhere_deep, lease_seconds=10)
    assert caplog.messages == []


async def test_waiting_is_not_blocking(caplog: pytest.LogCaptureFixture) -> None:
    await watched(lambda: asyncio.sleep(4), lease_seconds=6)
    assert caplog.messages == []
