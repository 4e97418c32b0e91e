"""Heartbeats: for what is held, and no more often than needed; and those of the stand-in, for a blocked event loop."""

import asyncio
import time
from collections.abc import Callable

import pytest
from resonate.send import TaskRef

from worker import heartbeat as heartbeats
from worker.heartbeat import StandIn, SteadyHeartbeat

PAUSE = 0.02


class Server:
    """Remembers the heartbeats; ``away``: they fail."""

    def __init__(self) -> None:
        self.heard: list[list[tuple[str, int]]] = []
        self.away = False

    async def task_heartbeat(self, pid: str, tasks: list[TaskRef]) -> None:
        assert pid == "me"
        self.heard.append([(task.id, task.version) for task in tasks])
        if self.away:
            raise ConnectionError


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(PAUSE / 4)


async def pauses(count: float) -> None:
    await asyncio.sleep(PAUSE * count)


async def test_what_is_held_is_told_again_and_again() -> None:
    server = Server()
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)
    heartbeat.start("b", 7)

    await until(lambda: len(server.heard) >= 2)

    assert all(heard == [("a", 1), ("b", 7)] for heard in server.heard)
    heartbeat.shutdown()


async def test_what_ends_soon_is_never_told() -> None:
    server = Server()
    heartbeat = SteadyHeartbeat("me", 60, server)
    for number in range(100):
        heartbeat.start(str(number), 1)
        await asyncio.sleep(0)
        heartbeat.stop(str(number))

    assert server.heard == []
    heartbeat.shutdown()


async def test_after_a_time_with_nothing_held_it_begins_anew() -> None:
    server = Server()
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)
    heartbeat.stop("a")
    await pauses(4)
    assert server.heard == []

    heartbeat.start("b", 1)
    await until(lambda: server.heard)

    assert server.heard[0] == [("b", 1)]
    heartbeat.shutdown()


async def test_a_heartbeat_that_fails_is_not_the_last() -> None:
    server = Server()
    server.away = True
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)

    await until(lambda: len(server.heard) >= 2)
    heartbeat.shutdown()


async def test_after_the_shutdown_there_are_none() -> None:
    server = Server()
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)
    heartbeat.shutdown()

    await pauses(4)

    assert server.heard == []


async def test_the_silence_is_counted_from_the_last_heartbeat_and_only_while_something_is_held() -> None:
    heartbeat = SteadyHeartbeat("me", PAUSE, Server())
    assert heartbeat.silence() == 0

    heartbeat.start("a", 1)
    time.sleep(4 * PAUSE)  # noqa: ASYNC251  the loop is to stand still
    assert heartbeat.silence() >= 4 * PAUSE
    await until(lambda: heartbeat.silence() < 4 * PAUSE)

    heartbeat.stop("a")
    assert heartbeat.silence() == 0
    heartbeat.shutdown()


async def stand_in(server: Server, silence: Callable[[], float], until_heard: int = 0) -> None:
    """Until it has sent so many heartbeats, and for some pauses at least."""
    working = asyncio.create_task(StandIn("me", PAUSE, server, silence, lambda: {"a": 1, "b": 7}).run())
    await pauses(6)
    await until(lambda: len(server.heard) >= until_heard)
    working.cancel()


async def test_the_stand_in_beats_for_all_leases_while_the_loop_is_silent() -> None:
    server = Server()
    await stand_in(server, lambda: 3 * PAUSE, until_heard=2)
    assert all(heard == [("a", 1), ("b", 7)] for heard in server.heard)


@pytest.mark.parametrize("silence", [0, 1.9 * PAUSE])
async def test_the_stand_in_sends_nothing_while_the_loop_beats(silence: float) -> None:
    server = Server()
    await stand_in(server, lambda: silence)
    assert server.heard == []


async def test_the_stand_in_does_not_keep_leases_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "KEEP_SECONDS", 3 * PAUSE)
    server = Server()
    await stand_in(server, lambda: 4 * PAUSE)
    assert server.heard == []


async def test_a_heartbeat_of_the_stand_in_that_fails_is_not_the_last() -> None:
    server = Server()
    server.away = True
    await stand_in(server, lambda: 3 * PAUSE, until_heard=2)
