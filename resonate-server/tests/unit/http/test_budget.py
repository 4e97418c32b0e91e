"""How bytes are granted, and which sender must go when there are too many."""

import asyncio

import pytest

from resonate_server.http.bodies import Full, Quota, Unfinished

STORIES = {
    "bytes that fit are granted at once": "+4 +6",
    "bytes that do not fit wait until enough is returned": "+4 +6 ?5 -4 ~0 -6 =0",
    "no sender is overtaken by a smaller one": "+8 ?9 ?1 -8 =0 =1",
    "a sender that no longer waits is skipped": "+10 ?10 ?10 x0 -10 =1",
    "more than the whole budget is granted alone": "+11",
    "the number of bytes that wait is limited": "+10 ?20 !1",
    "an abandoned place no longer counts": "+10 ?20 x0 -10 +10",
}
"""Of 10 bytes to grant, while 20 may wait. ``+4``: granted at once; ``?4``: has to wait; ``!4``: refused; ``-4``: given
back. Of those that wait, by number: ``~0`` waits still, ``=0`` is served, ``x0`` has left."""


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_story(story: str) -> None:
    room, places = Quota(10, may_wait=20), list[asyncio.Future[None]]()
    for what, number in ((step[0], int(step[1:])) for step in story.split()):
        match what:
            case "+":
                assert room.ask(number) is None
            case "?":
                place = room.ask(number)
                assert place is not None
                places.append(place)
            case "!":
                with pytest.raises(Full):
                    room.ask(number)
            case "-":
                room.give_back(number)
            case "x":
                places[number].cancel()
            case _:
                assert places[number].done() == (what == "=")


class Sender:
    """A sender that remembers whether it was dropped."""

    is_gone = False

    def evict(self) -> None:
        self.is_gone = True


def test_the_earliest_unfinished_sender_is_dropped_when_there_is_too_much() -> None:
    unfinished, senders = Unfinished(limit=10), [Sender() for _ in range(5)]
    unfinished.hold(senders[0], 9)
    unfinished.drop(senders[0])  # it is complete
    for sender in senders[1:4]:
        unfinished.hold(sender, 3)
    unfinished.hold(senders[1], 4)
    unfinished.hold(senders[4], 2)
    assert [sender.is_gone for sender in senders] == [False, True, False, False, False]
