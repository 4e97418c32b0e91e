"""The events of a decision: one kind of event for each thing that may happen to a promise or a task."""

from typing import Any

import msgspec
import pytest
from unit.driver import Driver
from unit.stories import happen

from resonate_server.watch import derive
from resonate_server.watch.events import encoder


@pytest.fixture
def driver() -> Driver:
    return Driver()


def told(driver: Driver) -> list[dict[str, Any]]:
    """Return all events since the driver last forgot, in wire format."""
    events = [event for decided in driver.decided for event in derive.events(decided)]
    found: list[dict[str, Any]] = msgspec.json.decode(encoder.encode(events))
    return found


STORIES = {
    # Promises.
    "a promise without an origin is a chain of its own": "create alone | promise.created chain=alone; task.queued",
    "a timer is marked as such and waits for no worker": "create sleep timer | promise.created timer=True",
    # Waiting tasks.
    "a new task waits because it was created": (
        "create t | promise.created; task.queued group=workers version=0 reason=created"
    ),
    "a delayed one waits from the end of its delay on": (
        "create t delay+1000; forget; wait 1000 | task.queued reason=created"
    ),
    "but not before": "create t delay+1000 | promise.created",
    "one that nobody claims is offered again": "pending t; wait 30000 | task.queued reason=retry",
    "a suspended one is resumed by what it awaits, which is told first": (
        "suspended t a; settle a | promise.settled id=a; task.queued id=t version=1 reason=resumed"
    ),
    "one that is told of one more settlement waits as before": (
        "suspended t a b; settle a; forget; settle b | promise.settled"
    ),
    "a halted one is continued": "halted t; continue_ t | task.queued reason=continued",
    # Attempts.
    "a claim begins the attempt of its version": (
        "pending t; acquire t | task.claimed pid=pid-1 version=1 group=workers"
    ),
    "what its creator runs is claimed without waiting": "new t | promise.created; task.claimed",
    "a heartbeat is no event": "acquired t; later 1000; beat t 1 |",
    "nor is a suspension that is refused because something has settled": (
        "acquired t; create a -; settle a; forget; suspend t 1 a |"
    ),
    "a suspension says what it waits for": (
        "acquired t; create a -; forget; suspend t 1 a | task.suspended pid=pid-1 version=1 on=['a']"
    ),
    "a lease that lapses is a loss": (
        "acquired t; wait 10000 | task.lost pid=pid-1 version=1 reason=lease; task.queued version=1 reason=lease"
    ),
    "one that is taken back is lost because its holder is gone": (
        "acquired t; later 1000; gone | task.lost reason=gone; task.queued reason=gone"
    ),
    "a second attempt that is given back is released although the first was lost": (
        "acquired t; wait 10000; acquire t 1; forget; release t 2"
        " | task.released pid=pid-1 version=2; task.queued reason=released"
    ),
    "what is released again waits out a pause first": (
        "acquired t; release t 1; acquire t 1; forget; release t 2 | task.released"
    ),
    "until that is over": (
        "acquired t; release t 1; acquire t 1; release t 2; forget; wait 1000 | task.queued reason=released"
    ),
    "what nobody claimed is offered again after a pause": (
        "pending t; set_aside t 0; forget; wait 5000 | task.queued reason=retry"
    ),
    "a halt tells whose attempt it ended": "acquired t; halt t | task.halted pid=pid-1 version=1",
    "a result ends the attempt by settling the promise": (
        "acquired t; fulfill t 1 | promise.settled pid=pid-1 version=1"
    ),
    "a late result is told as refused": (
        "acquired t; wait 10000; acquire t 1; forget; fulfill t 1 | task.refused id=t version=1 request=task.fulfill"
    ),
    "a claim that comes too late is nothing special": "acquired t; acquire t 0 |",
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(driver: Driver, story: str) -> None:
    happens, _, seen = story.partition(" |")
    happen(driver, happens)
    expected = [each.split() for each in seen.split(";") if each]

    events = told(driver)
    assert [event["kind"] for event in events] == [kind for kind, *_ in expected]
    for event, (_, *members) in zip(events, expected, strict=True):
        assert [f"{name}={event[name]}" for name in (each.partition("=")[0] for each in members)] == members


def test_an_unclaimed_task_is_reported_with_what_is_wrong(driver: Driver) -> None:
    happen(driver, "pending t; set_aside t 0")
    (unclaimed,) = told(driver)
    assert (unclaimed["kind"], unclaimed["group"], unclaimed["version"]) == ("task.unclaimed", "workers", 0)
    assert unclaimed["trouble"] == "handed out once, claimed by nobody"
