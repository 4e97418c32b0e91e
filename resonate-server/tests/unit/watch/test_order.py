"""The order of events, whatever the clocks of several servers say."""

import random

import pytest
from unit.driver import LEASE, PID, START, Driver

from resonate_server.watch import derive
from resonate_server.watch.events import ChainEvent
from resonate_server.watch.order import actor, place


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


def events(driver: Driver) -> list[ChainEvent]:
    return [event for decided in driver.decided for event in derive.events(decided) if event.id == "t"]


@pytest.mark.parametrize("seed", range(20))
def test_events_of_a_call_are_in_order_although_clocks_differ(driver: Driver, seed: int) -> None:
    """Each event is stamped by the clock of another server, as far off as clocks get."""
    in_order, rng = events(driver), random.Random(seed)
    kinds = [type(event).__name__ for event in in_order]
    for event in in_order:
        event.at += rng.randrange(-400, 400)

    heard = sorted(in_order, key=lambda event: event.at)
    assert _strictly(sorted(heard, key=place)) == _strictly(in_order)
    assert {"TaskClaimed", "TaskSuspended", "TaskReleased", "TaskLost", "PromiseSettled"} <= {*kinds}


def _strictly(events: list[ChainEvent]) -> list[str]:
    """Return the events that occur once per attempt."""
    return [f"{type(event).__name__} {getattr(event, 'version', '')}" for event in events if place(event)[1] < 2]


def test_a_worker_was_connected_when_it_claimed_suspended_released_or_settled_its_task(driver: Driver) -> None:
    asked = [(type(event).__name__, actor(event)) for event in events(driver) if actor(event) is not None]
    claimed = ("TaskClaimed", PID)
    assert asked == [
        claimed, ("TaskSuspended", PID), claimed, ("TaskReleased", PID), claimed, claimed, ("PromiseSettled", PID)
    ]  # fmt: skip


def test_a_worker_need_not_be_connected_when_another_settles_its_task() -> None:
    driver = Driver()
    driver.acquired("t")
    driver.now = START + 5
    driver.settle("t")
    assert [actor(event) for event in events(driver)] == [None]
