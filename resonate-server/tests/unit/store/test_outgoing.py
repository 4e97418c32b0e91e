"""How many bytes of large answers are under way, and who waits until some have left."""

import asyncio

import pytest

from resonate_server.protocol.answers import Answer
from resonate_server.store import outgoing
from resonate_server.store.errors import STOPS, ReadFailed
from resonate_server.store.outgoing import LARGE_BYTES, MAX_HELD_BACK, MAX_OUTGOING_BYTES, Outgoing, weighed

FULL = Answer(status=200, data=None, weight=MAX_OUTGOING_BYTES)
NEARLY = Answer(status=200, data=None, weight=MAX_OUTGOING_BYTES - 1)
BYTE = Answer(status=200, data=None, weight=1)
SMALL = Answer(status=200, data=None)


def test_there_is_room_up_to_a_number_of_bytes() -> None:
    under_way = Outgoing()
    under_way.leaves(NEARLY)
    assert not under_way.is_full
    under_way.leaves(BYTE)
    assert under_way.is_full
    under_way.left(BYTE)
    assert not under_way.is_full


def test_what_a_transaction_has_decided_counts_until_the_next_one_begins() -> None:
    under_way = Outgoing()
    under_way.decided(NEARLY)
    assert not under_way.is_full
    under_way.decided(BYTE)
    assert under_way.is_full
    under_way.begin()
    assert not under_way.is_full
    under_way.leaves(NEARLY)
    under_way.decided(BYTE)
    assert under_way.is_full


async def test_who_waits_goes_on_in_turn_while_there_is_room() -> None:
    under_way = Outgoing()
    for answer in (FULL, BYTE):
        under_way.leaves(answer)
    first, second, third = under_way.wait(), under_way.wait(), under_way.wait()
    under_way.left(BYTE)
    assert not first.done(), "it is full still"
    second.cancel()
    under_way.left(FULL)
    assert (first.done(), third.done()) == (True, False)
    under_way.leaves(BYTE)
    under_way.left(SMALL)
    assert not third.done(), "a small answer makes no room"
    under_way.left(BYTE)
    assert third.done()
    await asyncio.gather(first, third)


async def test_not_all_may_wait() -> None:
    under_way = Outgoing()
    waiting = [under_way.wait() for _ in range(MAX_HELD_BACK + 1)]
    with pytest.raises(ReadFailed, match=r"^too many large answers are under way; try again later$"):
        await waiting[-1]
    assert not any(each.done() for each in waiting[:-1])


async def test_at_the_end_nobody_waits() -> None:
    under_way = Outgoing()
    waiting, given_up = under_way.wait(), under_way.wait()
    given_up.cancel()
    under_way.stop()
    with pytest.raises(ReadFailed, match=STOPS):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await given_up


def test_an_answer_weighs_something_once_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = LARGE_BYTES
    monkeypatch.setattr(outgoing, "answer_weight", lambda _: weight)
    assert weighed(SMALL) == SMALL
    weight += 1
    assert weighed(SMALL) == Answer(status=200, data=None, weight=LARGE_BYTES + 1)
