"""ConnectionHistory: when workers were connected, and when no worker of a group was."""

import pytest
from unit.watch.scene import connections

from resonate_server.watch.connection_history import FOREVER, MAX_SPELLS, MAX_WORKERS, ConnectionHistory

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
