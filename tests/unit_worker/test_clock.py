"""The worker's clock follows the server's, whatever the machine's clock shows."""

import time

import pytest

from worker.stream import ServerClock, uptime_ms

# Steps: a number lets that many ms pass; `=` is the server's time, `new` a new stream, `wall` the machine's clock,
# which jumps by that many ms. After the bar: what the worker's clock shows.
STORIES = {
    "before the server has sent its time, the machine's counts": "5000 wall-1000 | 1004000",
    "then a clock that jumps changes nothing": "=2000000 wall-3600000 30000 | 2030000",
    "a delayed message does not set it back": "new =2000000 10000 =2007000 | 2010000",
    "a delayed first message is corrected by the next": "new =1997000 10000 =2010000 | 2010000",
    "the time from a new stream counts, even if its server is behind": "=2000000 new =1500000 | 1500000",
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(story: str) -> None:
    uptime, wall = 5_000, 1_000_000
    clock = ServerClock(lambda: uptime, lambda: wall)
    steps, _, shown = story.partition(" | ")
    for step in steps.split():
        if step == "new":
            clock.start_afresh()
        elif step.startswith("="):
            clock.synchronise(int(step[1:]))
        elif step.startswith("wall"):
            wall += int(step.removeprefix("wall"))
        else:
            uptime, wall = uptime + int(step), wall + int(step)
    assert clock() == int(shown)


def test_the_machine_s_times_are_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert time.time() * 1_000 - 1 <= ServerClock()() <= time.time() * 1_000 + 1
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)  # a system that does not count suspended time
    before = time.monotonic_ns() // 1_000_000
    assert before <= uptime_ms() <= time.monotonic_ns() // 1_000_000
