"""What operators learn of decisions: metrics and lines in the log."""

import pytest
from unit.driver import HOUR, SECOND, START, TARGET, Driver, value

from resonate_server.engine.reports import report
from resonate_server.metrics import Metrics
from resonate_server.protocol.requests import ScheduleCreate

MINUTE = 60 * SECOND
FIRST_RUN = 1_700_000_040_000
"""The first full minute after the start of every test (22:13:20)."""


def figures(server: Driver, *names: str) -> list[float | None]:
    """Report what was decided, and return what is counted then."""
    metrics = Metrics()
    for decided in server.decided:
        report(decided, metrics)
    return [metrics.registry.get_sample_value(f"resonate_{name}") for name in names]


def create_schedule(server: Driver, tags: dict[str, str]) -> None:
    server.call(ScheduleCreate("s", "* * * * *", "{{.id}}-{{.timestamp}}", HOUR, value("x"), tags))


@pytest.mark.parametrize(
    ("version", "lost_at", "waited_s", "recovery_s"), [(0, None, 0.06, 0), (1, None, 0, 0), (1, 40, 0, 0.02)]
)
def test_a_claim_says_how_long_the_task_waited_for_its_first_worker_or_since_it_lost_one(
    server: Driver, version: int, lost_at: int | None, waited_s: float, recovery_s: float
) -> None:
    server.create("t")
    if version:
        server.acquire("t", ttl=HOUR if lost_at is None else lost_at)
    if version and lost_at is None:
        server.release("t", 1)
    server.wait(40)
    server.now += 20
    server.forget_messages()

    server.acquire("t", version)

    assert figures(server, "task_claim_seconds_sum", "task_recovery_seconds_sum") == [waited_s, recovery_s]


def test_a_heartbeat_is_no_claim_and_a_released_lease_is_not_lost(server: Driver) -> None:
    server.acquired("t")
    server.forget_messages()
    server.now += 1
    server.heartbeat(("t", 1))
    server.release("t", 1)
    assert figures(server, "task_claim_seconds_count", "leases_lost_total") == [0, 0]


def test_a_promise_that_is_created_settled_was_never_pending(server: Driver) -> None:
    server.create("t", timeout_at=START)
    assert figures(server, "promise_settlement_seconds_count") == [0]


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
