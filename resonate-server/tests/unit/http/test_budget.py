"""How bytes are granted, and which sender must go when there are too many."""

import pytest

from resonate_server.http.bodies import Full, Quota, Unfinished


class Sender:
    """A sender that remembers whether it was dropped."""

    def __init__(self) -> None:
        self.is_gone = False

    def evict(self) -> None:
        self.is_gone = True


async def test_bytes_that_fit_are_granted_at_once() -> None:
    room = Quota(10, may_wait=10)
    assert room.ask(4) is None
    assert room.ask(6) is None


async def test_bytes_that_do_not_fit_wait_until_enough_is_returned() -> None:
    room = Quota(10, may_wait=10)
    room.ask(4)
    room.ask(6)
    place = room.ask(5)
    assert place is not None

    room.give_back(4)
    assert not place.done()
    room.give_back(6)
    assert place.done()


async def test_no_sender_is_overtaken_by_a_smaller_one() -> None:
    room = Quota(10, may_wait=20)
    room.ask(8)
    large, small = room.ask(9), room.ask(1)
    assert large is not None
    assert small is not None

    room.give_back(8)
    assert (large.done(), small.done()) == (True, True)


async def test_a_sender_that_no_longer_waits_is_skipped() -> None:
    room = Quota(10, may_wait=20)
    room.ask(10)
    first, second = room.ask(10), room.ask(10)
    assert first is not None
    assert second is not None
    first.cancel()

    room.give_back(10)
    assert second.done()


async def test_more_than_the_whole_budget_is_granted_alone() -> None:
    assert Quota(10, may_wait=0).ask(11) is None


async def test_the_number_of_waiting_senders_is_limited() -> None:
    room = Quota(10, may_wait=10)
    room.ask(10)
    room.ask(10)
    with pytest.raises(Full):
        room.ask(1)


async def test_an_abandoned_place_no_longer_counts() -> None:
    room = Quota(10, may_wait=10)
    room.ask(10)
    place = room.ask(10)
    assert place is not None
    place.cancel()
    room.give_back(10)

    assert not room.is_contended
    assert room.ask(10) is None


def test_the_earliest_sender_is_dropped_when_too_much_is_unfinished() -> None:
    unfinished, senders = Unfinished(limit=10), [Sender() for _ in range(4)]
    for sender in senders[:3]:
        unfinished.hold(sender, 3)
    unfinished.hold(senders[0], 4)
    unfinished.hold(senders[3], 2)
    assert [sender.is_gone for sender in senders] == [True, False, False, False]


def test_a_complete_body_no_longer_counts_as_unfinished() -> None:
    unfinished, senders = Unfinished(limit=10), [Sender() for _ in range(3)]
    unfinished.hold(senders[0], 9)
    unfinished.drop(senders[0])
    unfinished.hold(senders[1], 5)
    unfinished.hold(senders[2], 5)
    assert not any(sender.is_gone for sender in senders)
