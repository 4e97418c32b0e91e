"""ConnectionHistory: when workers were connected, and when no worker of a group was."""

import pytest

from resonate_server.watch.connection_history import FOREVER, MAX_SPELLS, MAX_WORKERS, ConnectionHistory

SINCE = 100


def history() -> ConnectionHistory:
    """Worker p1 of group bar has been connected since 200."""
    made = ConnectionHistory(SINCE)
    made.connected("bar", "p1", 200)
    return made


def test_a_group_is_deserted_while_its_last_worker_is_away() -> None:
    bar = history()
    bar.left("bar", "p1", 300)
    assert bar.absent("bar") == [(300, FOREVER)]
    bar.connected("bar", "p2", 500)
    assert bar.absent("bar") == [(300, 500)]


def test_a_worker_with_two_streams_is_connected_until_it_leaves() -> None:
    bar = history()
    bar.connected("bar", "p1", 300)
    assert bar.away("p1") == []


def test_a_group_that_never_had_a_worker_is_deserted_for_as_long_as_anybody_looked() -> None:
    assert history().absent("baz") == [(SINCE, FOREVER)]


def test_no_worker_is_missed_while_some_are_unknown() -> None:
    bar = history()
    bar.left("bar", "p1", 300)
    bar.all_known_since = None
    assert (bar.absent("bar"), bar.absent("baz"), bar.away("p1")) == ([], [], [])


def test_no_worker_is_missed_before_all_were_known() -> None:
    bar = history()
    bar.left("bar", "p1", 300)
    bar.connected("bar", "p1", 500)
    bar.left("bar", "p1", 600)
    bar.all_known_since = 400

    assert bar.absent("bar") == [(400, 500), (600, FOREVER)]
    assert bar.absent("baz") == [(400, FOREVER)]


def test_a_worker_that_is_reported_late_was_connected_since_it_came() -> None:
    bar = history()
    bar.left("bar", "p1", 300)
    bar.connected("bar", "p2", 500)
    bar.connected("bar", "p2", 250)
    assert bar.absent("bar") == []


class TestWhoeverAsksIsThere:
    """Even if by another server's clock it had left by then, and whichever is heard first."""

    @pytest.mark.parametrize("is_late", [True, False])
    def test_a_worker_left_after_its_last_request(self, is_late: bool) -> None:
        bar = history()
        if not is_late:
            bar.acted("p1", 305)
        bar.left("bar", "p1", 300)
        if is_late:
            bar.acted("p1", 305)
        assert bar.away("p1") == bar.absent("bar") == [(305, FOREVER)]

    def test_a_worker_that_has_reconnected_left_after_its_last_request(self) -> None:
        bar = history()
        bar.left("bar", "p1", 300)
        bar.acted("p1", 305)
        bar.connected("bar", "p1", 500)
        assert bar.away("p1") == [(305, 500)]

    def test_very_many_clients_take_no_more_memory(self) -> None:
        bar = history()
        bar.left("bar", "p1", 300)
        bar.acted("p1", 305)
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
