"""What runs beside the event loop: heartbeats for held tasks, and warnings about functions that block the loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from logging import LogRecord
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import pytest
from resonate.error import ServerError
from resonate.send import TaskRef

from worker import heartbeats
from worker.heartbeats import HEARTBEATS_PER_LEASE, HeartbeatThread

PAUSE = 0.05
LEASE = PAUSE * HEARTBEATS_PER_LEASE
PATIENCE = 60
"""Seconds to wait for anything expected, however busy the machine."""

warnings = SimpleQueue[LogRecord]()
"""Functions that block the loop wait on this queue, in C code, so that the frame found is their own."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "LOOK_SECONDS", PAUSE)
    monkeypatch.setattr(heartbeats, "SIGN_SECONDS", PAUSE)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str], list[str]]]:
    """The log messages about a function; on a busy machine there may be messages about others, too."""
    handler = QueueHandler(warnings)
    heartbeats.logger.addHandler(handler)
    yield lambda name: [
        text for text in caplog.messages if text.startswith(f"function {name} (test_heartbeats.py, line ")
    ]
    heartbeats.logger.removeHandler(handler)
    while not warnings.empty():
        warnings.get()


class Server:
    """Records the heartbeats; ``refusal``: what they raise; ``listens``: it wants signs of life."""

    def __init__(self, *, listens: bool = False) -> None:
        self.heard: list[list[tuple[str, int]]] = []
        self.refusal: Exception | None = None
        self.listens = listens

    async def task_heartbeat(self, pid: str, tasks: list[TaskRef]) -> None:
        assert pid == "me"
        self.heard.append([(task.id, task.version) for task in tasks])
        if self.refusal is not None:
            raise self.refusal


class Companion(HeartbeatThread):
    """Counts how often the loop has answered."""

    answers = 0

    async def _ask(self) -> None:
        await super()._ask()
        self.answers += 1


async def watched(
    run: Callable[[], Any],
    lease_seconds: float = LEASE,
    server: Server | None = None,
    leases: dict[str, int] | None = None,
) -> None:
    """Run something while a heartbeat thread watches this event loop."""
    server = server or Server()
    companion = Companion("me", lease_seconds, server, lambda: leases or {}, lambda: server.listens)
    running: list[asyncio.Task[Any]] = []

    async def on_the_thread() -> None:
        running.append(asyncio.ensure_future(companion.run()))
        await asyncio.wait(running)

    thread = threading.Thread(target=asyncio.run, args=[on_the_thread()])
    thread.start()
    while companion.answers < 2:
        await asyncio.sleep(0.01)
    result = run()
    if asyncio.iscoroutine(result):
        await result
    answers = companion.answers
    while companion.answers < answers + 2:  # one check may have started earlier
        await asyncio.sleep(0.01)
    running[0].get_loop().call_soon_threadsafe(running[0].cancel)
    await asyncio.to_thread(thread.join)


def somewhere_deep() -> None:
    while "blocks the event loop" not in warnings.get(timeout=PATIENCE).message:
        pass


def block_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(PAUSE / 4)


async def nothing() -> None:
    await asyncio.sleep(4 * PAUSE)


async def has_heard(server: Server, heartbeats: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(server.heard) < heartbeats:
            await asyncio.sleep(PAUSE / 4)


@pytest.mark.parametrize(
    ("lease_seconds", "listens", "heard"),
    [
        pytest.param(LEASE, False, [("a", 1), ("b", 7)], id="held tasks"),
        pytest.param(60, True, [], id="signs of life, as leases are extended at their own pace"),
    ],
)
async def test_heartbeats_are_sent_again_and_again(
    lease_seconds: float, listens: bool, heard: list[tuple[str, int]]
) -> None:
    server = Server(listens=listens)
    await watched(lambda: has_heard(server, 3), lease_seconds, server, {"a": 1, "b": 7})
    assert all(each == heard for each in server.heard)


@pytest.mark.parametrize(("lease_seconds", "leases"), [(60, {"a": 1}), (LEASE, {})], ids=["new", "none"])
async def test_new_leases_and_none_get_no_heartbeat(lease_seconds: float, leases: dict[str, int]) -> None:
    server = Server()
    await watched(nothing, lease_seconds, server, leases)
    assert server.heard == []


@pytest.mark.parametrize("listens", [False, True])
async def test_a_failed_heartbeat_is_followed_by_another(listens: bool) -> None:
    server = Server(listens=listens)
    server.refusal = ConnectionError()
    await watched(lambda: has_heard(server, 2), server=server, leases={"a": 1})


async def test_a_server_that_refuses_all_heartbeats_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """As one does that was restarted with another token: once a second, for as long as nobody notices."""
    server = Server(listens=True)
    server.refusal = ServerError(401, "wrong token")
    await watched(lambda: has_heard(server, 5), server=server)
    assert caplog.messages.count("heartbeat failed: server error (code=401): wrong token") == 1


@pytest.mark.parametrize(("lease_seconds", "listens"), [(LEASE, False), (60, True)], ids=["lease", "sign of life"])
async def test_heartbeats_continue_while_the_loop_is_blocked(lease_seconds: float, listens: bool) -> None:
    server = Server(listens=listens)

    def block() -> None:
        before = len(server.heard)
        block_until(lambda: len(server.heard) >= before + 3)

    await watched(block, lease_seconds, server, leases={"a": 1})


async def test_heartbeats_stop_if_the_loop_stays_blocked() -> None:
    server = Server(listens=True)
    companion = Companion("me", LEASE, server, lambda: {"a": 1}, lambda: True)
    companion._asked_at = time.monotonic() - heartbeats.KEEP_SECONDS
    beating = asyncio.create_task(companion._beat())
    await asyncio.sleep(4 * PAUSE)
    assert server.heard == []
    companion._asked_at = None
    await has_heard(server, 2)
    beating.cancel()


async def test_other_blocking_code_is_logged_with_its_location(told: Callable[[str], list[str]]) -> None:
    await watched(somewhere_deep, lease_seconds=1)
    assert told("somewhere_deep")


@pytest.mark.parametrize("pause", [lambda: time.sleep(0.7), nothing], ids=["short", "no block"])
async def test_a_pause_that_endangers_no_lease_is_not_logged(
    pause: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    await watched(pause, lease_seconds=10)
    assert caplog.messages == []


def test_once_its_loop_is_closed_the_thread_ends() -> None:
    async def begin() -> set[threading.Thread]:
        before = set(threading.enumerate())
        Companion("me", LEASE, Server(), dict, lambda: False).start()
        return set(threading.enumerate()) - before

    (thread,) = asyncio.run(begin())
    block_until(lambda: not thread.is_alive())


def test_the_thread_ends_although_its_loop_was_closed_before_it_answered() -> None:
    async def begin() -> Companion:
        companion = Companion("me", LEASE, Server(), dict, lambda: False)
        companion.start()
        return companion

    before = set(threading.enumerate())
    loop = asyncio.new_event_loop()
    companion = loop.run_until_complete(begin())
    (thread,) = set(threading.enumerate()) - before
    block_until(lambda: companion._silence() > PAUSE)
    loop.close()
    block_until(lambda: not thread.is_alive())
