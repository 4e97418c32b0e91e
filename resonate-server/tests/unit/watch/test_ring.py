"""The ring: numbers without gaps, bounded memory, the order of events whatever the clocks of servers say; viewers."""

import asyncio
import random

import msgspec
import pytest
from msgspec.structs import replace
from unit.driver import LEASE, PID, Driver
from unit.watch.scene import created, gone, settled, task

from resonate_server.watch import derive
from resonate_server.watch.events import ChainEvent, Event, What
from resonate_server.watch.ring import MAX_LINES, MAX_VIEWERS, Feed, Overtaken, Ring, Viewer, place
from resonate_server.watch.watch import actor


def numbers(ring: Ring, after: int = 0, limit: int = 100) -> list[int]:
    return [event.seq for event in ring.after(after, limit)]


@pytest.mark.parametrize(
    ("count", "asked", "found"),
    [
        pytest.param(3, {}, [1, 2, 3], id="events are numbered from 1 on"),
        pytest.param(25, {}, [*range(16, 26)], id="the oldest are forgotten"),
        pytest.param(25, {"after": 18}, [*range(19, 26)], id="events after a number are found across the wrap-around"),
        pytest.param(25, {"after": 18, "limit": 2}, [19, 20], id="no more events than requested are given"),
    ],
)
def test_events_of_a_ring_of_ten(count: int, asked: dict[str, int], found: list[int]) -> None:
    ring = Ring(max_events=10)
    for _ in range(count):
        ring.append(gone())
    assert numbers(ring, **asked) == found


def test_events_of_promises_are_found_as_long_as_they_are_kept() -> None:
    ring = Ring(max_events=3)
    for id in ("a", "b", "a", "b", "a"):
        ring.append(settled(id))
    assert [[event.seq for event in ring.of(ids)] for ids in ("a", "b", "ab", "c")] == [[3, 5], [4], [3, 4, 5], []]


def test_payloads_are_bounded_whatever_their_size() -> None:
    ring = Ring(max_events=1_000, max_weight=30_000)
    for number in range(100):
        ring.append(settled(f"p-{number}", "x" * 1_000_000))
    assert numbers(ring) == [98, 99, 100]


@pytest.mark.parametrize("long", ["x" * 4_000, "\U0001f600" * 4_000], ids=["ASCII", "emoji"])
def test_ids_are_bounded_as_well(long: str) -> None:
    """They come from clients, and may have thousands of characters."""
    ring = Ring(max_events=1_000, max_weight=30_000)
    of_tasks = task(What.QUEUED, group=long), task(What.UNCLAIMED, trouble=long), task(What.SUSPENDED, on=[long] * 3)
    of_calls = settled(long, chain="c"), created("a", parent=long), *of_tasks
    for event in (*of_calls, gone(long)):
        for _ in range(20):
            ring.append(replace(event))
        assert len(ring.after(0, 1_000)) < 8


# ── order ──


@pytest.fixture
def driver() -> Driver:
    """One call that goes through everything that can happen to it."""
    driver = Driver()
    driver.create("other", target=None)
    driver.create("t")
    driver.acquire("t", 0)
    driver.suspend("t", 1, "other")
    driver.settle("other")
    driver.acquire("t", 1)
    driver.release("t", 2, "no")
    driver.wait(60_000)
    driver.acquire("t", 2)
    driver.wait(LEASE)
    driver.acquire("t", 3)
    driver.fulfill("t", 4)
    return driver


def all_events(driver: Driver) -> list[ChainEvent]:
    return [event for decided in driver.decided for event in derive.events(decided)]


def events(driver: Driver) -> list[ChainEvent]:
    return [event for event in all_events(driver) if event.id == "t"]


@pytest.mark.parametrize("seed", range(5))
def test_events_of_a_call_are_in_order_although_clocks_differ(driver: Driver, seed: int) -> None:
    """Each event is stamped by the clock of another server, as far off as clocks get."""
    in_order, rng = events(driver), random.Random(seed)
    kinds = [event.kind for event in in_order]
    for event in in_order:
        event.at += rng.randrange(-400, 400)

    heard = sorted(in_order, key=lambda event: event.at)
    assert _strictly(sorted(heard, key=place)) == _strictly(in_order)
    assert {What.CLAIMED, What.SUSPENDED, What.RELEASED, What.LOST, What.SETTLED} <= {*kinds}


def _strictly(events: list[ChainEvent]) -> list[str]:
    """Return the events that occur once per attempt."""
    return [f"{event.kind} {getattr(event, 'version', '')}" for event in events if place(event)[1] < 2]


def test_a_worker_was_connected_when_it_claimed_suspended_released_or_settled_its_task(driver: Driver) -> None:
    asked = [event.kind for event in events(driver) if actor(event) == PID]
    attempts = [What.CLAIMED, What.SUSPENDED, What.CLAIMED, What.RELEASED, What.CLAIMED, What.CLAIMED]
    assert asked == [*attempts, What.SETTLED]
    driver.acquired("settled-by-others")
    driver.decided.clear()
    driver.settle("settled-by-others")
    assert [actor(event) for event in all_events(driver)] == [None]


# ── viewers: where one starts, what it is given, and when it is dropped ──


class Scene:
    """A small ring and its feed."""

    def __init__(self) -> None:
        self.ring = Ring(max_events=1_000)
        self.feed = Feed(self.ring)

    def happen(self, *events: Event) -> None:
        for event in events:
            self.ring.append(event)
        self.feed.reported()

    def taken(self, viewer: Viewer) -> list[dict[str, object]]:
        return [msgspec.json.decode(line) for line in self.feed.take(viewer).splitlines()]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def viewer(scene: Scene) -> Viewer:
    return scene.feed.open("", "")[0]


class TestBeginning:
    @pytest.mark.parametrize(
        "after", ["other:1", "1", ":", "{0}:", "{0}:-1", "{0}:x", "{0}:²", "{0}:2", "{0}:" + "9" * 99]
    )
    def test_a_viewer_with_an_unknown_position_starts_over(self, scene: Scene, after: str) -> None:
        scene.happen(settled("p"))
        viewer, resumed = scene.feed.open("", after.format(scene.ring.epoch))
        assert (viewer.seq, resumed) == (1, False)

    def test_a_viewer_with_a_forgotten_position_starts_over(self, scene: Scene) -> None:
        scene.happen(*[gone() for _ in range(1_500)])
        assert not scene.feed.open("", f"{scene.ring.epoch}:499")[1]
        assert scene.feed.open("", f"{scene.ring.epoch}:500")[1]

    def test_a_viewer_beyond_the_limit_replaces_the_oldest(self, scene: Scene) -> None:
        viewers = [scene.feed.open("", "")[0] for _ in range(MAX_VIEWERS + 1)]
        assert [viewer.is_open for viewer in viewers] == [False] + [True] * MAX_VIEWERS


class TestTaking:
    def test_many_events_are_given_in_portions(self, scene: Scene, viewer: Viewer) -> None:
        scene.happen(*[gone() for _ in range(MAX_LINES + 1)])
        assert [len(scene.taken(viewer)) for _ in range(3)] == [MAX_LINES, 1, 0]

    def test_a_viewer_that_is_too_slow_is_dropped(self, scene: Scene, viewer: Viewer) -> None:
        scene.happen(*[gone() for _ in range(1_001)])
        with pytest.raises(Overtaken):
            scene.feed.take(viewer)


class TestPrefix:
    def test_ids_of_others_are_not_revealed_in_other_members_of_an_event(self, scene: Scene) -> None:
        viewer, _ = scene.feed.open("mine", "")
        scene.happen(
            created("mine", "yours", parent="yours"),
            task(What.SUSPENDED, id="mine", chain="yours", on=["yours:1", "mine:2"]),
        )
        first, second = scene.taken(viewer)
        assert (first["chain"], first["parent"]) == (None, None)
        assert (second["chain"], second["on"]) == (None, ["mine:2"])


class TestWaiting:
    @pytest.mark.parametrize("end", ["something happens", "the server stops"])
    async def test_waiting_ends_when(self, scene: Scene, viewer: Viewer, end: str) -> None:
        waiting = asyncio.create_task(scene.feed.wait(viewer, 60))
        await asyncio.sleep(0)
        scene.happen(gone()) if end == "something happens" else scene.feed.close()
        async with asyncio.timeout(30):
            await waiting

    async def test_there_is_no_waiting_while_something_is_left(self, scene: Scene, viewer: Viewer) -> None:
        scene.happen(gone())
        async with asyncio.timeout(30):
            await scene.feed.wait(viewer, 60)
