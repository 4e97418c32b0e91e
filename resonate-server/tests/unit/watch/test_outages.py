"""When the server was down or frozen, judged by the clock alone."""

import asyncio
import os
from pathlib import Path

import pytest

from resonate_server.watch import outages
from resonate_server.watch.connection_history import FOREVER
from resonate_server.watch.outages import MAX_OUTAGES, Outage, Outages


class Scene:
    """A server that is restarted again and again; ``told``: outages that ended."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.now = 1_000_000
        self.told: list[Outage] = []
        self.start()

    def start(self) -> None:
        self.outages = Outages(self.path, lambda: self.now, self.told.append)

    def passes(self, ms: int) -> None:
        self.now += ms
        self.outages.look()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "alive")


def test_a_frozen_server_knows_from_when_to_when_it_stood_still(scene: Scene) -> None:
    begin = scene.now
    scene.passes(5_000)
    assert scene.outages.between(0, FOREVER) == scene.told == [Outage(begin, begin + 5_000)]


async def test_a_slow_disk_is_not_taken_for_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "BEAT_S", 0.01)
    looks: list[int] = []

    def now() -> int:
        looks.append(len(looks))
        return looks[-1]

    looking = Outages(path := tmp_path / "alive", now, lambda _: None)
    os.mkfifo(path)  # cannot be written to until there is a reader
    running = asyncio.create_task(looking.run())
    async with asyncio.timeout(60):
        while len(looks) < 10:
            await asyncio.sleep(0.01)
        running.cancel()
        with path.open("rb") as read:
            await asyncio.to_thread(read.read)
            with pytest.raises(asyncio.CancelledError):
                await running


def test_a_restart_knows_how_long_it_took_and_what_was_before(scene: Scene) -> None:
    scene.passes(2_000)
    scene.outages._write()
    begin = scene.now
    scene.now += 7_000
    scene.start()
    assert scene.outages.between(0, FOREVER) == [Outage(begin - 2_000, begin), Outage(begin, begin + 7_000)]


def test_outages_that_ended_before_a_time_are_left_out(scene: Scene) -> None:
    scene.passes(2_000)
    assert [len(scene.outages.between(at, FOREVER)) for at in (scene.now - 1, scene.now)] == [1, 0]


def test_only_the_latest_outages_are_kept(scene: Scene) -> None:
    for _ in range(MAX_OUTAGES + 3):
        scene.passes(2_000)
    kept = scene.outages.between(0, FOREVER)
    assert (len(kept), kept[-1].end) == (MAX_OUTAGES, scene.now)


@pytest.mark.parametrize("left", [None, b"", b"{", b'{"alive": "x"}'])
def test_an_unreadable_file_is_no_obstacle(tmp_path: Path, left: bytes | None) -> None:
    path = tmp_path / "alive"
    if left is not None:
        path.write_bytes(left)
    assert Scene(path).outages.between(0, FOREVER) == []
