"""What operators learn of decisions: metrics and lines in the log."""

import pytest
from unit.driver import HOUR, LEASE, SECOND, TARGET, Driver, value
from unit.stories import happen

from resonate_server.engine.reports import lost_leases, report
from resonate_server.metrics import Metrics
from resonate_server.protocol.requests import ScheduleCreate

MINUTE = 60 * SECOND
FIRST_RUN = 1_700_000_040_000
"""The first full minute after the start of every test (22:13:20)."""


def figures(server: Driver, *names: str) -> list[float | None]:
    """Report what was decided, and return what is counted then."""
    metrics = Metrics()
    for decided in server.decided:
        report(decided, lost_leases(decided), metrics)
    return [metrics.registry.get_sample_value(f"resonate_{name}") for name in names]


def create_schedule(server: Driver, tags: dict[str, str]) -> None:
    server.call(ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", HOUR, value("x"), tags))


FIGURES = {
    "the first claim took as long as the task waited": "create t; wait 40; later 20; acquire t | task_claim 0.06",
    "a later one is not counted": "acquired t; release t 1; wait 60; forget; acquire t 1 | task_claim 0",
    "nor has it recovered anything": "acquired t; release t 1; wait 60; forget; acquire t 1 | task_recovery 0",
    "unless a lease was lost": f"acquired t; wait {LEASE}; later 20; acquire t 1 | task_recovery 0.02",
    "a settlement took as long as the promise was pending": "create t; later 5000; settle t | promise_settlement 5",
    "a promise that is created settled was never pending": "create t by+0 | promise_settlement none",
    "a heartbeat is no claim": "acquired t; later 1; beat t 1 | task_claim none",
}
"""What happens, and the sum of the seconds that are counted then."""


@pytest.mark.parametrize("story", FIGURES.values(), ids=FIGURES)
def test_times_that_are_counted(server: Driver, story: str) -> None:
    steps, _, counted = story.partition(" | ")
    name, seconds = counted.split()
    happen(server, steps)
    what = "count" if seconds == "none" else "sum"
    assert figures(server, f"{name}_seconds_{what}") == [0 if seconds == "none" else float(seconds)]


@pytest.mark.parametrize(("end", "lost"), [(f"wait {LEASE}", 1), ("gone", 1), ("release t 1", 0), ("settle t", 0)])
def test_leases_that_are_lost_are_counted(server: Driver, end: str, lost: int) -> None:
    happen(server, f"acquired t; {end}")
    assert figures(server, "leases_lost_total") == [lost]


@pytest.mark.parametrize(
    ("late", "told"),
    [
        (MINUTE - 1, []),
        (
            5 * MINUTE,
            [
                "schedule s: the runs missed from 2023-11-14T22:14:00+00:00 until before 2023-11-14T22:19:00+00:00 are "
                "skipped"
            ],
        ),
    ],
)
def test_skipped_runs_are_told_once_and_a_late_one_is_not_skipped(
    server: Driver, caplog: pytest.LogCaptureFixture, late: int, told: list[str]
) -> None:
    create_schedule(server, {"resonate:target": TARGET})
    server.now = FIRST_RUN + late
    server.tick()
    server.tick()
    assert figures(server, "schedule_promises_total") == [1]
    assert caplog.messages == told


def test_a_schedule_whose_promises_nobody_runs_is_told_once(server: Driver, caplog: pytest.LogCaptureFixture) -> None:
    create_schedule(server, {})
    create_schedule(server, {})
    figures(server)
    assert caplog.messages == ["schedule s: without a resonate:target nobody runs its promises"]
