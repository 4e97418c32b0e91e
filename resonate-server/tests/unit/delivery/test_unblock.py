"""``unblock`` messages are kept until a live stream has taken them: section 5.2, and section 9, item 6."""

import time

import pytest
from msgspec.structs import replace
from unit.hubs import Clock, Scene, execute, received, unblock

from resonate_server.delivery import WorkerStream
from resonate_server.delivery.unblocks import ALL_BYTES, STREAM_BYTES
from resonate_server.delivery.worker_stream import DOUBT_S, UNBLOCK_WINDOW, WINDOW
from resonate_server.protocol.messages import OwedUnblock, Unblock
from resonate_server.protocol.records import Value

ANY = "poll://any@callers"


async def all_received(connection: WorkerStream) -> list[str]:
    """Return all messages, including those that the stream is given after it has taken the first ones."""
    seen: list[str] = []
    while batch := await received(connection):
        seen += batch
    return seen


def large(id: str, size: int, address: str = "poll://uni@callers/c1") -> Unblock:
    small = unblock(id, address)
    return replace(small, promise=replace(small.promise, value=Value(data="x" * size)))


class TestDelivery:
    async def test_delivery_is_reported_once_the_message_was_certainly_read(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        await received(caller)
        clock.seconds += DOUBT_S - 1
        scene.hub.run_round()
        assert scene.delivered_unblocks == []

        clock.seconds += 2
        scene.hub.run_round()

        assert scene.delivered_unblocks == ["p"]

    async def test_uni_goes_to_no_other_worker(self, scene: Scene) -> None:
        other = scene.worker("c2", group="callers")
        scene.send(unblock("p"))
        assert await received(other) == []

    async def test_any_with_an_id_prefers_it(self, scene: Scene) -> None:
        scene.worker("c1", group="callers")
        named = scene.worker("c2", group="callers")
        scene.send(unblock("p", "poll://any@callers/c2"))
        assert await received(named) == ["p"]


class TestKept:
    async def test_a_message_for_an_absent_listener_is_kept_until_it_connects(self, scene: Scene) -> None:
        scene.send(unblock("p"), unblock("q"))
        caller = scene.worker("c1", group="callers")
        assert await received(caller) == ["p", "q"]

    async def test_there_is_one_message_per_promise_and_address(self, scene: Scene) -> None:
        scene.send(unblock("p"), unblock("p"))
        assert await received(scene.worker("c1", group="callers")) == ["p"]

    @pytest.mark.parametrize("count", [10, UNBLOCK_WINDOW, 10 * UNBLOCK_WINDOW])
    async def test_all_waiting_messages_arrive_however_many(self, scene: Scene, count: int) -> None:
        scene.send(*(unblock(f"p-{number}") for number in range(count)))
        assert len(set(await all_received(scene.worker("c1", group="callers")))) == count


class LateScene(Scene):
    """A scene whose store answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def request_unblocks(self, group: str, pid: str, after: int) -> None:
        assert (group, pid) == ("callers", "c1")
        self.asked.append(after)


class TestWhileTheStoreIsAsked:
    async def test_messages_that_arrive_meanwhile_are_requested_afterwards(self) -> None:
        scene = LateScene()
        listener = scene.hub.connect("callers", "c1")
        scene.send(unblock("p"))
        assert (await received(listener), scene.asked) == ([], [0])

        scene.hub.give("callers", "c1", 0, [], complete=True)
        assert scene.asked == [0, 0]
        scene.hub.give("callers", "c1", 0, scene.owed["callers/c1"], complete=True)

        assert (await received(listener), scene.asked) == (["p"], [0, 0])

    async def test_there_is_one_request_at_a_time_and_unexpected_answers_are_ignored(self) -> None:
        scene = LateScene()
        listener = scene.hub.connect("callers", "c1")
        scene.send(unblock("p"))
        await listener.wait(0)
        owed = scene.owed["callers/c1"]

        scene.hub.give("callers", "c1", 7, owed, complete=True)
        assert (await received(listener), scene.asked) == ([], [0])
        scene.hub.give("callers", "c1", 0, owed, complete=False)
        assert (await received(listener), scene.asked) == (["p"], [0, owed[-1].place])


class TestSeveralServers:
    """Servers write concurrently, so a message with an earlier place may appear later."""

    async def test_messages_passed_over_are_found_after_catching_up(self) -> None:
        scene = LateScene()
        caller = scene.hub.connect("callers", "c1")
        scene.hub.send(unblock("early"))
        scene.hub.give("callers", "c1", 0, [OwedUnblock(7, unblock("late"))], complete=True)
        assert await received(caller) == ["late"]
        scene.hub.give("callers", "c1", 7, [], complete=True)
        scene.hub.heal()
        assert scene.asked == [0, 7, 0]
        everything = [OwedUnblock(5, unblock("early")), OwedUnblock(7, unblock("late"))]
        scene.hub.give("callers", "c1", 0, everything, complete=True)

        assert await received(caller) == ["early"]


class TestBrokenStream:
    """Section 5.2: nothing in the server recovers a lost ``unblock``, so messages that may be lost are sent again."""

    async def test_what_was_written_just_before_is_sent_again(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        await received(caller)
        clock.seconds += DOUBT_S - 1
        scene.hub.disconnect(caller, planned=False)
        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_doubt_counts_from_the_time_of_writing(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        clock.seconds += DOUBT_S + 1
        await received(caller)
        clock.seconds += 1

        scene.hub.disconnect(caller, planned=False)

        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_messages_written_long_before_the_break_are_not_sent_again(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        await received(caller)
        clock.seconds += DOUBT_S + 1
        scene.hub.run_round()

        scene.hub.disconnect(caller, planned=False)

        assert await received(scene.worker("c1", group="callers")) == []


class TestBudget:
    """Bytes in memory are limited; the rest waits in the store until there is room."""

    async def test_a_stream_that_is_not_read_has_a_limit_of_waiting_bytes(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(*(large(f"p-{number}", STREAM_BYTES // 4) for number in range(20)))
        assert caller.unblock_bytes <= STREAM_BYTES
        assert sorted(await all_received(caller)) == sorted(f"p-{number}" for number in range(20))

    async def test_a_single_larger_message_is_given_alone(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(large("a", 4 * STREAM_BYTES), large("b", 4 * STREAM_BYTES))
        assert [await received(caller), await received(caller), await received(caller)] == [["a"], ["b"], []]

    async def test_all_streams_together_have_a_limit_of_waiting_bytes(self, scene: Scene) -> None:
        count = 2 * ALL_BYTES // STREAM_BYTES
        callers = [scene.worker(f"c{number}", group="callers") for number in range(count)]
        scene.send(*(large(f"p-{each}", STREAM_BYTES - 2_000, f"poll://uni@callers/c{each}") for each in range(count)))
        assert sum(caller.unblock_bytes for caller in callers) <= ALL_BYTES
        seen = [id for _ in range(2) for caller in callers for id in await all_received(caller)]
        assert sorted(seen) == sorted(f"p-{each}" for each in range(count))

    async def test_streams_that_are_not_read_do_not_starve_those_that_are(self, scene: Scene) -> None:
        for number in range(2 * ALL_BYTES // STREAM_BYTES):
            scene.worker(f"c{number}", group="deaf")
            scene.send(large(f"p-{number}", STREAM_BYTES - 2_000, f"poll://uni@deaf/c{number}"))
        scene.send(unblock("early"))
        caller = scene.worker("c1", group="callers")

        scene.send(unblock("late"))

        assert await all_received(caller) == ["early", "late"]

    async def test_a_stream_that_ends_makes_room(self, scene: Scene) -> None:
        count = ALL_BYTES // STREAM_BYTES + 1
        callers = [scene.worker(f"c{number}", group="callers") for number in range(count)]
        scene.send(*(large(f"p-{each}", STREAM_BYTES - 2_000, f"poll://uni@callers/c{each}") for each in range(count)))
        assert await received(callers[-1]) == []
        scene.hub.disconnect(callers[0], planned=False)
        assert await received(callers[-1]) == [f"p-{count - 1}"]

    async def test_a_message_for_any_member_goes_to_another_one_if_in_doubt(self, scene: Scene) -> None:
        first, second = scene.worker("c1", group="callers"), scene.worker("c2", group="callers")
        scene.send(unblock("p", ANY))
        await received(first)
        scene.hub.disconnect(first, planned=False)
        assert await received(second) == ["p"]


class TestReset:
    async def test_waiting_and_doubtful_messages_are_forgotten(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("in doubt"))
        await received(caller)
        scene.send(unblock("waiting"))
        scene.owed.clear()

        scene.hub.reset()

        assert await received(caller) == []
        scene.hub.disconnect(caller, planned=False)
        assert await received(scene.worker("c1", group="callers")) == []

    async def test_the_same_promise_is_reported_again_after_a_reset(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        await received(caller)
        scene.owed.clear()
        scene.hub.reset()

        scene.send(unblock("p"))

        assert await received(caller) == ["p"]

    async def test_tasks_are_forgotten_too(self, scene: Scene) -> None:
        worker = scene.worker()
        scene.send(*(execute(f"t-{number}") for number in range(2 * WINDOW)))
        scene.hub.reset()
        scene.send(execute("t"))
        assert await received(worker) == ["t"]
        assert worker.room == WINDOW - 1


class TestScale:
    async def test_fifty_thousand_listeners_on_one_promise(self, scene: Scene) -> None:
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


class TestClosedStream:
    async def test_a_slow_reader_gets_only_its_window_and_later_the_rest(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(*(unblock(f"p-{number}") for number in range(UNBLOCK_WINDOW + 1)))
        assert len(await received(caller)) == UNBLOCK_WINDOW
        assert len(await received(caller)) == 1

    async def test_any_prefers_an_open_stream(self, scene: Scene) -> None:
        scene.worker("c1", group="callers").close()
        caller = scene.worker("c2", group="callers")
        scene.send(unblock("p", ANY))
        assert await received(caller) == ["p"]
