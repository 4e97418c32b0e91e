"""What several servers report about a worker that was killed: it was connected to one of them, another one accepted its
claim, a third one only heard of both. Their clocks differ, and their messages to one another come late or never."""

from collections.abc import AsyncIterator, Callable

import pytest
from unit.driver import PID, START, Driver
from unit.rows import transaction

from resonate_server.delivery.presence import Change, Member, State
from resonate_server.store.sqlite import IN_MEMORY, Database
from resonate_server.store.view import View
from resonate_server.watch import Watch
from resonate_server.watch.events import Event, What, decode_from_peer, encode_for_peers

GROUP = "workers"
TAKEN_BACK_MS, WENT_ON_MS = 300, 1_500
HOME, ASKED, THIRD = 0, 1, 2
"""The server that the worker is connected to, the one that accepts its claim, and the one that only hears of it."""


class Site:
    """Three servers on one store. The others hear of what happens at one only when the test lets them."""

    def __init__(self) -> None:
        self.store = Database(IN_MEMORY)
        self.driver = Driver(self.store)
        self.time = START
        self.ahead = [0, 0, 0]
        """How far the clock of each is ahead (ms)."""
        self.servers = [self._server(number) for number in range(3)]
        self.rung: list[tuple[int, Event]] = []

    def _server(self, number: int) -> Watch:
        watch = Watch(self, list, lambda: self.now(number))
        watch.tell_others = lambda event: self.rung.append((number, event))
        return watch

    def now(self, number: int) -> int:
        return self.time + self.ahead[number]

    async def read[T](self, query: Callable[[View], T]) -> T:
        with transaction(self.store):
            return query(self.store)

    def ask(self, number: int, work: Callable[[], object]) -> None:
        """Let server ``number`` decide the work, by its clock."""
        self.driver.now = self.now(number)
        self.driver.decided.clear()
        work()
        for decided in self.driver.decided:
            self.servers[number].decided(decided)

    def rings(self) -> list[tuple[int, Event]]:
        """Take what has happened so far and the others have not heard yet."""
        rung, self.rung = self.rung, []
        return rung

    def hear(self, rung: list[tuple[int, Event]]) -> None:
        for sender, event in rung:
            for number, server in enumerate(self.servers):
                if number != sender:
                    server.take(decode_from_peer(encode_for_peers(event)))

    async def tell(self, number: int) -> tuple[list[str], list[str]]:
        view = await self.servers[number].chains.view("t")
        assert view is not None
        return view.story, [phase.kind for each in view.promises if each.id == "t" for phase in each.phases]


@pytest.fixture(params=[[0, 0, 0], [0, 80, 0], [80, 0, 0], [0, 80, 40]], ids=str)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    site = Site()
    site.ahead = request.param
    yield site
    site.store.close()


def begin(site: Site) -> None:
    site.servers[HOME].worker_changed(Change.CONNECTED, GROUP, PID)
    site.ask(ASKED, lambda: site.driver.create("t"))
    site.hear(site.rings())
    site.time += 50


def end(site: Site) -> None:
    """Take back its lease and let another worker continue."""
    site.time += TAKEN_BACK_MS
    site.ask(HOME, lambda: site.driver.release_leases(PID))
    site.time += WENT_ON_MS
    site.servers[THIRD].worker_changed(Change.CONNECTED, GROUP, "pid-2")
    site.ask(THIRD, lambda: site.driver.acquire("t", 1, pid="pid-2"))
    site.time += 10
    site.ask(THIRD, lambda: site.driver.fulfill("t", 2))


def kill(site: Site) -> None:
    site.time += 1
    site.servers[HOME].worker_changed(Change.LEFT, GROUP, PID)


async def told_by_all(site: Site) -> tuple[list[str], list[str]]:
    told = [await site.tell(number) for number in range(3)]
    assert told[0] == told[1] == told[2]
    return told[0]


@pytest.mark.parametrize("held_back", [What.CLAIMED, What.LEFT])
async def test_all_report_a_worker_killed_at_work_whatever_the_clocks_say_and_whatever_is_heard_first(
    site: Site, held_back: What
) -> None:
    begin(site)
    site.ask(ASKED, lambda: site.driver.acquire("t"))
    kill(site)
    end(site)
    rung = site.rings()
    site.hear([each for each in rung if each[1].kind is not held_back])
    site.hear([each for each in rung if each[1].kind is held_back])

    story, kinds = await told_by_all(site)
    assert "of workers was gone" in story[0]
    assert "in the middle of" in story[0]
    assert "in attempt 2" in story[1]
    assert kinds == ["waiting", "running", "gap", "running"]


async def test_all_report_a_call_suspended_when_its_worker_was_killed(site: Site) -> None:
    begin(site)
    site.ask(ASKED, lambda: site.driver.create("awaited", target=None))
    site.ask(ASKED, lambda: site.driver.acquire("t"))
    site.ask(ASKED, lambda: site.driver.suspend("t", 1, "awaited"))
    kill(site)
    site.time += WENT_ON_MS
    site.servers[THIRD].worker_changed(Change.CONNECTED, GROUP, "pid-2")
    site.time += 100
    site.ask(HOME, lambda: site.driver.settle("awaited"))
    site.ask(THIRD, lambda: site.driver.acquire("t", 1, pid="pid-2"))
    site.time += 100
    site.ask(THIRD, lambda: site.driver.fulfill("t", 2))
    site.hear(site.rings())

    story, _ = await told_by_all(site)
    assert "workers had no worker" in story[0]
    assert "nothing was interrupted" in story[0]


async def test_no_server_reports_a_worker_killed_after_it_finished_its_work(site: Site) -> None:
    begin(site)
    site.ask(ASKED, lambda: site.driver.acquire("t"))
    site.ask(ASKED, lambda: site.driver.fulfill("t", 1))
    kill(site)
    site.hear(site.rings())

    assert await told_by_all(site) == ([], ["waiting", "running"])


async def test_a_missed_departure_of_a_worker_is_noticed_later(site: Site) -> None:
    """Servers keep reporting the workers that they miss."""
    begin(site)
    site.servers[THIRD].sync_gone([Member(PID, GROUP, START, START, State.GONE, START + 500)])
    site.time += 1_000

    assert await site.tell(THIRD) == ([], ["waiting", "gap"])
    assert await site.tell(ASKED) == ([], ["waiting"])


async def test_no_worker_is_missed_before_a_server_knows_those_of_the_others(site: Site) -> None:
    site.ask(HOME, lambda: site.driver.create("t"))
    site.time += 1_000
    for known_since, kinds in ((None, ["waiting"]), (START, ["gap"])):
        site.servers[HOME].all_workers_known(known_since)
        assert await site.tell(HOME) == ([], kinds)
