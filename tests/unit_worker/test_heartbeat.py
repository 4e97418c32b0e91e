"""Heartbeats: for what is held, and no more often than needed."""

import asyncio

from resonate.send import TaskRef

from worker.heartbeat import SteadyHeartbeat

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


async def pauses(count: float) -> None:
    await asyncio.sleep(PAUSE * count)


async def test_what_is_held_is_told_again_and_again() -> None:
    server = Server()
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)
    heartbeat.start("b", 7)

    await pauses(6)

    assert len(server.heard) >= 2
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
    await pauses(6)

    assert server.heard[0] == [("b", 1)]
    heartbeat.shutdown()


async def test_a_heartbeat_that_fails_is_not_the_last() -> None:
    server = Server()
    server.away = True
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)

    await pauses(8)

    assert len(server.heard) >= 2
    heartbeat.shutdown()


async def test_after_the_shutdown_there_are_none() -> None:
    server = Server()
    heartbeat = SteadyHeartbeat("me", PAUSE, server)
    heartbeat.start("a", 1)
    heartbeat.shutdown()

    await pauses(4)

    assert server.heard == []
