"""``unblock`` messages are kept until a live stream has taken them: section 5.2, and section 9, item 6."""

import asyncio
import time

import pytest
from msgspec.structs import replace
from unit.delivery.stories import play
from unit.hubs import Clock, Scene, execute, many, received, unblock

from resonate_server.delivery import WorkerStream
from resonate_server.delivery.unblocks import ALL_BYTES, STREAM_BYTES
from resonate_server.delivery.worker_stream import DOUBT_S, UNBLOCK_WINDOW, WINDOW
from resonate_server.protocol.address import PollAddress
from resonate_server.protocol.messages import OwedUnblock
from resonate_server.protocol.records import Value


async def all_received(connection: WorkerStream) -> list[str]:
    """Return all messages, including those that the stream is given after it has taken the first ones."""
    seen: list[str] = []
    while batch := await received(connection):
        seen += batch
    return seen


def of(size: int) -> Value:
    return Value(data="x" * size)


STORIES = {
    "uni is that listener and nobody else": "+c2 p@uni/c1 | c2=",
    "any with an id prefers it": "+c1 +c2 p@any/c2 | c2=p",
    "any prefers an open stream": "+c1 c1:closed +c2 p@any | c2=p",
    "for an absent listener it is kept until it connects": "p@uni/c1 q@uni/c1 +c1 | c1=p,q",
    "there is one per promise and address": "p@uni/c1 p@uni/c1 +c1 | c1=p",
    # A broken stream. Nothing in the server recovers a lost result, so one that may be lost is sent again.
    "what was written just before is sent again": f"+c1 p@uni/c1 c1? {DOUBT_S - 1}s c1! +c1 | c1=p",
    "doubt counts from the time of writing": f"+c1 p@uni/c1 {DOUBT_S + 1}s c1? 1s c1! +c1 | c1=p",
    "what was written long before is not sent again": f"+c1 p@uni/c1 c1? {DOUBT_S + 1}s round c1! +c1 | c1=",
    "what is in doubt and for any member goes to another": "+c1 +c2 p@any c1? c1! | c2=p",
    # It is reported as delivered.
    "once it was surely read": f"+c1 p@uni/c1 c1? {DOUBT_S + 1}s round | delivered=p",
    "not before": f"+c1 p@uni/c1 c1? {DOUBT_S - 1}s round | delivered=",
    # A reset.
    "what waits is forgotten": "+c1 p@uni/c1 c1? q@uni/c1 reset | c1=",
    "so is what is in doubt": "+c1 p@uni/c1 c1? q@uni/c1 reset c1! +c1 | c1=",
    "the same promise may be reported again": "+c1 p@uni/c1 c1? reset p@uni/c1 | c1=p",
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_story(scene: Scene, clock: Clock, story: str) -> None:
    assert await play(story, scene, clock) == story.partition(" | ")[2]


class TestDelivery:
    @pytest.mark.parametrize("count", [10, 2 * UNBLOCK_WINDOW])
    async def test_all_waiting_messages_arrive_however_many(self, scene: Scene, count: int) -> None:
        scene.send(*(unblock(f"p-{number}") for number in range(count)))
        assert len(set(await all_received(scene.worker("c1", group="callers")))) == count

    async def test_a_slow_reader_gets_only_its_window_and_later_the_rest(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(*(unblock(f"p-{number}") for number in range(UNBLOCK_WINDOW + 1)))
        assert [len(await received(caller)) for _ in range(2)] == [UNBLOCK_WINDOW, 1]


class LateScene(Scene):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.listener = self.hub.connect("callers", "c1")

    def request_unblocks(self, group: str, pid: str, after: int) -> None:
        assert (group, pid) == ("callers", "c1")
        self.asked.append(after)

    def answer(self, after: int, owed: list[OwedUnblock], complete: bool = True) -> None:
        self.hub.give("callers", "c1", after, owed, complete)


class TestWhileTheStoreIsAsked:
    @pytest.fixture
    async def scene(self) -> LateScene:
        return LateScene()

    async def test_messages_that_arrive_meanwhile_are_requested_afterwards(self, scene: LateScene) -> None:
        scene.send(unblock("p"))
        assert (await received(scene.listener), scene.asked) == ([], [0])

        scene.answer(0, [])
        assert scene.asked == [0, 0]
        scene.answer(0, scene.owed["callers/c1"])

        assert (await received(scene.listener), scene.asked) == (["p"], [0, 0])

    async def test_there_is_one_request_at_a_time_and_unexpected_answers_are_ignored(self, scene: LateScene) -> None:
        scene.send(unblock("p"))
        await received(scene.listener)
        owed = scene.owed["callers/c1"]

        scene.answer(7, owed)
        assert (await received(scene.listener), scene.asked) == ([], [0])
        scene.answer(0, owed, complete=False)
        assert (await received(scene.listener), scene.asked) == (["p"], [0, owed[-1].place])

    async def test_messages_written_elsewhere_are_requested_soon_and_again_after_catching_up(
        self, scene: LateScene
    ) -> None:
        address = PollAddress("callers", "c1", exact=True)
        scene.hub.look_for_unblocks(address)
        assert scene.asked == [0]
        scene.answer(0, [])
        scene.answer(0, [])
        assert scene.asked == [0, 0]

        scene.hub.look_for_unblocks(address)
        scene.answer(0, [OwedUnblock(7, unblock("p"))])
        scene.hub.heal()
        assert (await received(scene.listener), scene.asked) == (["p"], [0, 0, 0, 0])

    async def test_messages_passed_over_are_found_after_catching_up(self, scene: LateScene) -> None:
        """Several servers write concurrently, so a message with an earlier place may appear later."""
        scene.hub.send(unblock("early"))
        scene.answer(0, [OwedUnblock(7, unblock("late"))])
        assert await received(scene.listener) == ["late"]
        scene.answer(7, [])
        scene.hub.heal()
        assert scene.asked == [0, 7, 0]
        scene.answer(0, [OwedUnblock(5, unblock("early")), OwedUnblock(7, unblock("late"))])

        assert await received(scene.listener) == ["early"]


async def test_the_time_in_which_the_server_stood_still_proves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonate_server.delivery.hub.ROUND_S", 0.02)
    monkeypatch.setattr("resonate_server.delivery.worker_stream.DOUBT_S", 0.2)
    caller = scene.worker("c1", "callers")
    scene.send(unblock("p"))
    await received(caller)
    time.sleep(0.3)  # noqa: ASYNC251 - as if the process were frozen
    await asyncio.sleep(0.001)
    scene.hub.disconnect(caller, planned=False)
    assert await received(scene.worker("c1", "callers")) == ["p"]


class TestBudget:
    """Bytes in memory are limited; the rest waits in the store until there is room."""

    async def test_a_stream_that_is_not_read_has_a_limit_of_waiting_bytes(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(*(unblock(f"p-{number}", value=of(STREAM_BYTES // 4)) for number in range(20)))
        assert caller.unblock_bytes <= STREAM_BYTES
        assert sorted(await all_received(caller)) == sorted(f"p-{number}" for number in range(20))

    async def test_a_single_larger_message_is_given_alone(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("a", value=of(4 * STREAM_BYTES)), unblock("b", value=of(4 * STREAM_BYTES)))
        assert [await received(caller), await received(caller), await received(caller)] == [["a"], ["b"], []]

    def fill(self, scene: Scene, count: int, group: str = "callers") -> list[WorkerStream]:
        """Connect listeners and send each of them as much as its stream may hold."""
        streams = [scene.worker(f"c{number}", group) for number in range(count)]
        for number in range(count):
            scene.send(unblock(f"p-{number}", f"poll://uni@{group}/c{number}", of(STREAM_BYTES - 2_000)))
        return streams

    async def test_all_streams_together_have_a_limit_of_waiting_bytes(self, scene: Scene) -> None:
        callers = self.fill(scene, count := 2 * ALL_BYTES // STREAM_BYTES)
        assert sum(caller.unblock_bytes for caller in callers) <= ALL_BYTES
        seen = [id for _ in range(2) for caller in callers for id in await all_received(caller)]
        assert sorted(seen) == sorted(f"p-{number}" for number in range(count))

    async def test_streams_that_are_not_read_do_not_starve_those_that_are(self, scene: Scene) -> None:
        self.fill(scene, 2 * ALL_BYTES // STREAM_BYTES, group="deaf")
        scene.send(unblock("early"))
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("late"))
        assert await all_received(caller) == ["early", "late"]

    async def test_a_stream_that_ends_makes_room(self, scene: Scene) -> None:
        callers = self.fill(scene, count := ALL_BYTES // STREAM_BYTES + 1)
        assert await received(callers[-1]) == []
        scene.hub.disconnect(callers[0], planned=False)
        assert await received(callers[-1]) == [f"p-{count - 1}"]


async def test_a_reset_forgets_tasks_too(scene: Scene) -> None:
    worker = scene.worker()
    scene.send(*many(2 * WINDOW))
    scene.hub.reset()
    scene.send(execute("t"))
    assert await received(worker) == ["t"]
    assert worker.room == WINDOW - 1


async def test_fifty_thousand_listeners_on_one_promise(scene: Scene) -> None:
    for number in range(1_000):
        scene.worker(f"c{number}", group="callers")
    settled = unblock("p")
    absent = [replace(settled, address=f"poll://uni@callers/{number}") for number in range(25_000)]
    present = [unblock(f"p-{number}", f"poll://uni@callers/c{number % 1_000}") for number in range(25_000)]
    began = time.process_time()
    for message in [*absent, *present]:
        scene.hub.send(message)
    took = time.process_time() - began

    assert took < 5  # Takes 0.1 s; minutes if each step scanned all listeners.
