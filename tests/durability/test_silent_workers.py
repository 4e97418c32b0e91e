"""Workers that fall silent without ending. Leases last an hour, so none expires during a test."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self, override

import pytest
from durability.load import start_chain, wait_for_chains
from harness.basics import wait_until
from harness.process import Process
from harness.server import ServerProcess
from harness.services import CONNECTED
from harness.stack import Stack
from harness.wire import Wire

pytestmark = pytest.mark.long

WORK_SECONDS = 10.0
"""Long enough for every fault to hit a worker that is still working."""
LONG_SILENCE_SECONDS = 6.0
"""Longer than the longest silence that workers promise."""
GIVEN_UP = "no sign of life for"
CAME_BACK = "is alive: it had been declared dead"


class Site(Stack):
    """A server, baz, and as many bars as a test starts, each connected directly or through a ``Wire``."""

    server: ServerProcess

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ServerProcess(folder / "server.log", folder / "state.db"), {"LEASE_SECONDS": "3600"})
        self.bars: list[Process] = []

    @override
    def start(self) -> Self:
        self.client = self.server.start().client()
        self.baz = self.launch("baz")
        return self

    def start_bar(self, url: str = "") -> Process:
        self.bars.append(self.begin("bar", RESONATE_URL=url or self.server.url))
        self.bars[-1].wait_for(CONNECTED)
        return self.bars[-1]

    def bar_at_work(self, id: str) -> Process:
        """Return the bar at work for this id as soon as there is one; nothing else may be in flight for it."""
        wait_until(lambda: self.baz.runs("baz", id) and self._at_work(id), f"bar works for {id}")
        return self._at_work(id)[0]

    def runs_of_work(self, id: str) -> list[int]:
        """Return the number of runs in each bar."""
        return [bar.runs("work", id) for bar in self.bars]

    def _at_work(self, id: str) -> list[Process]:
        return [bar for bar in self.bars if bar.runs("work", id)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


def test_another_worker_continues_the_work_of_a_frozen_one_whose_late_result_is_refused(site: Site) -> None:
    site.start_bar()
    site.start_bar()
    start_chain(site.client, "a", running=WORK_SECONDS)
    frozen = site.bar_at_work("a")
    frozen.freeze()

    wait_until(lambda: site.runs_of_work("a") == [1, 1], "the other one works")
    frozen.thaw()

    wait_until(lambda: "lease lost, leaving the task to others" in frozen.output(), "its result comes too late")
    wait_for_chains(site.client, ["a"])
    assert (site.runs_of_work("a"), site.baz.runs("baz", "a")) == ([1, 1], 1)
    assert (site.server.output().count(GIVEN_UP), site.server.output().count(CAME_BACK)) == (1, 1)


def test_another_worker_continues_the_work_of_one_whose_machine_vanished(site: Site) -> None:
    with Wire(site.server.url) as one, Wire(site.server.url) as other:
        wires = {site.start_bar(wire.url): wire for wire in (one, other)}
        start_chain(site.client, "a", running=WORK_SECONDS)
        wires[site.bar_at_work("a")].cut()

        wait_for_chains(site.client, ["a"])

    assert (site.runs_of_work("a"), site.baz.runs("baz", "a")) == ([1, 1], 1)


def test_the_only_worker_keeps_its_work_as_long_as_its_lease(site: Site) -> None:
    alone = site.start_bar()
    start_chain(site.client, "a", running=WORK_SECONDS)
    site.bar_at_work("a")
    alone.freeze()
    time.sleep(LONG_SILENCE_SECONDS)
    alone.thaw()

    wait_for_chains(site.client, ["a"])
    assert (site.runs_of_work("a"), GIVEN_UP in site.server.output()) == ([1], False)


@pytest.mark.parametrize("fault", ["frozen", "cut off"])
def test_a_server_that_heard_from_no_worker_for_a_while_gives_up_none(site: Site, fault: str) -> None:
    with Wire(site.server.url) as wire:
        for _ in range(2):
            site.start_bar(wire.url)
        for id in ("a", "b"):
            start_chain(site.client, id, running=WORK_SECONDS)
            site.bar_at_work(id)
        site.server.freeze() if fault == "frozen" else wire.cut()
        time.sleep(LONG_SILENCE_SECONDS)
        site.server.thaw() if fault == "frozen" else wire.mend()

        wait_for_chains(site.client, ["a", "b"])

    assert [sum(site.runs_of_work(id)) for id in ("a", "b")] == [1, 1]
    assert GIVEN_UP not in site.server.output()
