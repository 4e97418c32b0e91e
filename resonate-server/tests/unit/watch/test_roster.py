"""The roster as shown: which workers are connected, and what they have to do."""

from resonate_server.delivery.presence import Member, State
from resonate_server.store.found import Occupation
from resonate_server.watch.views import MAX_GROUPS, MAX_WORKERS, groups

NOBODY_AT_WORK = Occupation(queued={}, held={})


def member(pid: str, group: str = "bar", since: int = 7, gone_at: int | None = None) -> Member:
    return Member(pid, group, since, 9, State.CONNECTED if gone_at is None else State.GONE, gone_at)


def test_with_a_prefix_only_its_groups_are_shown_and_no_numbers() -> None:
    there = [member("mine", "mine.bar"), *(member(f"pid-{number}", f"a{number}") for number in range(MAX_GROUPS))]
    occupation = Occupation(queued={"baz": 1, "mine.bar": 2, "mine.baz": 1}, held={"mine": 3})
    bar, baz = groups(there, occupation, "mine.")
    assert [(each.name, each.waiting) for each in (bar, baz)] == [("mine.bar", None), ("mine.baz", None)]
    assert [(worker.pid, worker.held) for worker in bar.workers] == [("mine", None)]


def test_workers_are_shown_in_order_of_arrival_with_those_that_are_gone_last() -> None:
    there = [member("young", since=3), member("gone", since=1, gone_at=4), member("old", since=2)]
    ((bar),) = groups(there, NOBODY_AT_WORK)
    assert [each.pid for each in bar.workers] == ["old", "young", "gone"]


def test_among_very_many_workers_those_that_are_gone_are_left_out() -> None:
    there = [member("gone", since=0, gone_at=1), *(member(f"pid-{number}") for number in range(MAX_WORKERS))]
    ((bar),) = groups(there, NOBODY_AT_WORK)
    assert len(bar.workers) == MAX_WORKERS
    assert "gone" not in [each.pid for each in bar.workers]


def test_the_length_of_all_names_is_bounded() -> None:
    """They come from clients."""
    there = [member(f"{number:04}" * 1_000, "x" * 4_000) for number in range(MAX_WORKERS)]
    queued = {f"{number:04}" * 1_000: 1 for number in range(MAX_GROUPS)}
    shown = groups(there, Occupation(queued=queued, held={}))
    assert 30 < sum(len(group.workers) for group in shown) < 35
    assert 60 < len(shown) < 70


def test_among_very_many_groups_those_with_workers_are_shown() -> None:
    """Groups without workers have names that callers made up."""
    queued = {f"group-{number}": 1 for number in range(10_000)}
    shown = [group.name for group in groups([member("pid", "zoo")], Occupation(queued=queued, held={}))]
    assert len(shown) == MAX_GROUPS
    assert shown == sorted(shown)
    assert "zoo" in shown
