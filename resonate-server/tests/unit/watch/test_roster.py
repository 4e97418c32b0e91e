"""The roster: who is there since when, who is silent, who is gone."""

import pytest

from resonate_server.store import Occupation
from resonate_server.watch.roster import ABSENT_MS, GONE_KEPT_MS, MAX_WORKERS, Group, Roster, Worker

NOBODY_AT_WORK = Occupation(queued={}, held={})


@pytest.fixture
def roster() -> Roster:
    return Roster()


def groups(roster: Roster, now: int = 0, occupation: Occupation = NOBODY_AT_WORK) -> list[Group]:
    return roster.groups(occupation, now)


def worker(roster: Roster, now: int = 0) -> Worker:
    """The only one there is."""
    ((only,),) = [group.workers for group in groups(roster, now)]
    return only


def test_a_worker_is_connected_since_its_stream_began(roster: Roster) -> None:
    roster.connected("bar", "pid", 7)

    assert worker(roster) == Worker(pid="pid", group="bar", since=7, heard=7)


def test_groups_tell_what_waits_and_workers_what_they_hold(roster: Roster) -> None:
    roster.connected("bar", "pid", 7)

    bar, baz = groups(roster, 7, Occupation(queued={"bar": 2, "baz": 1}, held={"pid": 3, "other": 1}))

    assert (bar.name, bar.waiting, [each.held for each in bar.workers]) == ("bar", 2, [3])
    assert (baz.name, baz.waiting, baz.workers) == ("baz", 1, [])


def test_a_broken_stream_makes_silent_until_the_grace_is_over(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)
    roster.left("bar", "pid", planned=False, now=5)
    assert (worker(roster).state, worker(roster).gone_at) == ("silent", None)

    assert roster.gone("pid", 9) == ["bar"]
    assert (worker(roster).state, worker(roster).gone_at) == ("gone", 9)


def test_a_worker_that_comes_back_begins_anew(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)
    roster.left("bar", "pid", planned=False, now=5)

    assert not roster.connected("bar", "pid", 6)
    assert (worker(roster).state, worker(roster).since) == ("connected", 6)


def test_a_stream_that_was_ended_as_planned_is_no_absence(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)
    roster.left("bar", "pid", planned=True, now=5)
    assert worker(roster).state == "connected"

    assert roster.connected("bar", "pid", 6)
    assert worker(roster).since == 0


def test_one_that_does_not_come_back_after_a_planned_end_is_gone(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)
    roster.left("bar", "pid", planned=True, now=5)

    assert worker(roster, 6 + ABSENT_MS).state == "gone"


def test_a_lapsed_lease_makes_silent_and_a_request_takes_it_back(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)
    assert roster.silent("pid") == ["bar"]
    assert worker(roster).state == "silent"

    roster.heard("pid", 2_000)
    assert (worker(roster).state, worker(roster).heard) == ("connected", 2_000)


def test_that_a_worker_is_heard_of_is_news_once_a_second(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)

    assert [bool(roster.heard("pid", now)) for now in (1_000, 1_500, 1_999, 2_000)] == [True, False, False, True]
    assert worker(roster).heard == 2_000


def test_of_very_many_workers_it_is_news_less_often(roster: Roster) -> None:
    for number in range(100):
        roster.connected("bar", f"pid-{number}", 0)

    assert [bool(roster.heard("pid-7", now)) for now in (5_000, 9_999, 10_000)] == [True, False, True]


def test_of_processes_without_a_stream_nothing_is_known(roster: Roster) -> None:
    assert (list(roster.heard("pid", 1)), roster.silent("pid"), roster.gone("pid", 1)) == ([], [], [])
    roster.left("bar", "pid", planned=False, now=1)
    assert groups(roster) == []


def test_a_process_in_two_groups_is_two_workers(roster: Roster) -> None:
    roster.connected("bar", "pid", 0)
    roster.connected("baz", "pid", 0)
    roster.left("bar", "pid", planned=False, now=1)

    assert roster.gone("pid", 2) == ["bar"]
    assert [group.workers[0].state for group in groups(roster)] == ["gone", "connected"]


def test_those_that_are_gone_are_shown_for_a_while_after_the_others(roster: Roster) -> None:
    roster.connected("bar", "old", 0)
    roster.connected("bar", "new", 1)
    roster.left("bar", "old", planned=False, now=2)
    roster.gone("old", 3)

    ((bar),) = groups(roster, 3 + GONE_KEPT_MS)
    assert [each.pid for each in bar.workers] == ["new", "old"]
    ((bar),) = groups(roster, 4 + GONE_KEPT_MS)
    assert [each.pid for each in bar.workers] == ["new"]


def test_there_is_a_limit_and_those_without_a_stream_are_forgotten_first(roster: Roster) -> None:
    for number in range(MAX_WORKERS):
        roster.connected("bar", f"pid-{number}", number)
    roster.left("bar", "pid-5", planned=False, now=1)
    roster.connected("bar", "one more", 2)

    pids = {each.pid for group in groups(roster, 2) for each in group.workers}

    assert len(pids) == MAX_WORKERS
    assert "pid-5" not in pids
