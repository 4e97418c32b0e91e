"""When workers were connected and when none of a group was; when the server was down or frozen, judged by the clock."""

import asyncio
import os
from pathlib import Path

import pytest
from unit.watch.scene import connections

from resonate_server.watch import absences
from resonate_server.watch.absences import (
    FOREVER,
    MAX_OUTAGES,
    MAX_SPELLS,
    MAX_WORKERS,
    ConnectionHistory,
    Outage,
    Outages,
)

SINCE = 100


def history(steps: str = "") -> ConnectionHistory:
    """Worker p1 of group bar has been connected since 200."""
    return connections(SINCE, f"p1+200 {steps}")


STORIES = {
    "a group is deserted while its last worker is away": ("p1-300", [(300, FOREVER)], [(300, FOREVER)]),
    "until another one comes": ("p1-300 p2+500", [(300, FOREVER)], [(300, 500)]),
    "a worker that is reported late was connected since it came": ("p1-300 p2+500 p2+250", [(300, FOREVER)], []),
    "a worker with two streams is connected until it leaves": ("p1+300", [], []),
    # Whoever asks is there, even if by another server's clock it had left by then, and whichever is heard first.
    "a worker left after its last request": ("p1?305 p1-300", [(305, FOREVER)], [(305, FOREVER)]),
    "though it is heard of late": ("p1-300 p1?305", [(305, FOREVER)], [(305, FOREVER)]),
    "also if it has reconnected": ("p1-300 p1?305 p1+500", [(305, 500)], [(305, 500)]),
}
"""What happened, when p1 was away, and when no worker of bar was there."""


@pytest.mark.parametrize(("steps", "away", "absent"), STORIES.values(), ids=STORIES)
def test_story(steps: str, away: list[tuple[int, int]], absent: list[tuple[int, int]]) -> None:
    bar = history(steps)
    assert (bar.away("p1"), bar.absent("bar")) == (away, absent)


def test_a_group_that_never_had_a_worker_is_deserted_for_as_long_as_anybody_looked() -> None:
    assert history().absent("baz") == [(SINCE, FOREVER)]


def test_no_worker_is_missed_while_some_are_unknown() -> None:
    bar = history("p1-300")
    bar.all_known_since = None
    assert (bar.absent("bar"), bar.absent("baz"), bar.away("p1")) == ([], [], [])


def test_no_worker_is_missed_before_all_were_known() -> None:
    bar = history("p1-300 p1+500 p1-600")
    bar.all_known_since = 400
    assert bar.absent("bar") == [(400, 500), (600, FOREVER)]
    assert bar.absent("baz") == [(400, FOREVER)]


def test_requests_of_very_many_clients_take_no_more_memory() -> None:
    bar = history("p1-300 p1?305")
    for number in range(MAX_WORKERS):
        bar.acted(f"stranger-{number}", 310)
    assert bar.away("p1") == [(300, FOREVER)]


def test_workers_that_connect_very_often_or_in_great_number_take_no_more_memory() -> None:
    bar = ConnectionHistory(SINCE)
    for number in range(MAX_SPELLS + 5):
        bar.connected("bar", "p1", SINCE + 10 * number)
        bar.left("bar", "p1", SINCE + 10 * number + 5)
    assert len(bar.away("p1")) == MAX_SPELLS

    for number in range(MAX_WORKERS):
        bar.connected("baz", f"p{number}", 1_000)
    assert bar.absent("bar") == [(SINCE, FOREVER)]


# ── outages of the server ──


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


async def test_a_disk_that_hangs_is_not_taken_for_an_outage_and_keeps_nobody_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absences, "BEAT_S", 0.01)
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
        ended, _ = await asyncio.wait([running], timeout=30)
    with path.open("rb") as read:  # ends the thread that writes
        await asyncio.to_thread(read.read)
    assert ended


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
