"""``unblock`` messages are kept until a live stream took them: section 5.2, and section 9, item 6."""

import pytest
from unit.hubs import Clock, Scene, received, unblock

from resonate_server.delivery import UNBLOCK_KEPT_S
from resonate_server.delivery.connection import DOUBT_S, UNBLOCK_WINDOW

ANY = "poll://any@callers"


class TestDelivery:
    async def test_it_goes_to_the_connected_listener_and_is_reported(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")

        scene.send(unblock("p"))

        assert await received(caller) == ["p"]
        assert scene.delivered_unblocks == ["p"]

    async def test_uni_goes_to_nobody_else(self, scene: Scene) -> None:
        other = scene.worker("c2", group="callers")

        scene.send(unblock("p"))

        assert await received(other) == []

    @pytest.mark.parametrize("address", [ANY, "poll://any@callers/absent"])
    async def test_any_goes_to_any_member(self, scene: Scene, address: str) -> None:
        caller = scene.worker("c1", group="callers")

        scene.send(unblock("p", address))

        assert await received(caller) == ["p"]

    async def test_any_with_an_id_prefers_it(self, scene: Scene) -> None:
        scene.worker("c1", group="callers")
        named = scene.worker("c2", group="callers")

        scene.send(unblock("p", "poll://any@callers/c2"))

        assert await received(named) == ["p"]

    async def test_it_takes_no_room_from_tasks(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        before = caller.room

        scene.send(unblock("p"))

        assert caller.room == before

    async def test_to_a_push_address_it_is_not_the_hub_s(self, scene: Scene) -> None:
        scene.send(unblock("p", "http://host/hook"))

        assert [url for _, url in scene.pushed] == ["http://host/hook"]


class TestKept:
    async def test_for_an_absent_listener_until_it_connects(self, scene: Scene) -> None:
        scene.send(unblock("p"), unblock("q"))
        assert scene.delivered_unblocks == []

        caller = scene.worker("c1", group="callers")

        assert await received(caller) == ["p", "q"]
        assert scene.delivered_unblocks == ["p", "q"]

    async def test_not_for_another_that_connects(self, scene: Scene) -> None:
        scene.send(unblock("p"))

        assert await received(scene.worker("c2", group="callers")) == []
        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_for_any_member_that_connects(self, scene: Scene) -> None:
        scene.send(unblock("p", ANY))

        assert await received(scene.worker("c7", group="callers")) == ["p"]

    async def test_once_per_promise_and_address(self, scene: Scene) -> None:
        scene.send(unblock("p"), unblock("p"))

        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_it_is_given_once(self, scene: Scene) -> None:
        scene.send(unblock("p"))
        first = scene.worker("c1", group="callers")
        await received(first)
        scene.hub.disconnect(first, planned=True)

        scene.hub.forget_stale_unblocks()

        assert await received(first) == []

    async def test_beyond_its_time_it_is_forgotten(self, scene: Scene, clock: Clock) -> None:
        scene.send(unblock("p"))
        clock.seconds += UNBLOCK_KEPT_S + 1

        scene.hub.forget_stale_unblocks()

        assert await received(scene.worker("c1", group="callers")) == []

    async def test_within_its_time_it_is_not(self, scene: Scene, clock: Clock) -> None:
        scene.send(unblock("p"))
        clock.seconds += UNBLOCK_KEPT_S - 1

        scene.hub.forget_stale_unblocks()

        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_its_time_does_not_begin_anew_when_another_of_its_group_connects(
        self, scene: Scene, clock: Clock
    ) -> None:
        """Workers come back every few minutes; the dead process's messages would never be forgotten."""
        scene.send(unblock("p"))
        for _ in range(4):
            clock.seconds += UNBLOCK_KEPT_S / 3
            other = scene.worker("c2", group="callers")
            scene.hub.disconnect(other, planned=True)

        scene.hub.forget_stale_unblocks()

        assert await received(scene.worker("c1", group="callers")) == []

    @pytest.mark.parametrize("count", [10, UNBLOCK_WINDOW, 10 * UNBLOCK_WINDOW])
    async def test_however_many_wait_they_all_arrive(self, scene: Scene, count: int) -> None:
        scene.send(*(unblock(f"p-{number}") for number in range(count)))

        seen: set[str] = set()
        for _ in range(10):
            caller = scene.worker("c1", group="callers")
            if caller.closed:
                scene.hub.disconnect(caller, planned=True)
                continue
            while batch := await received(caller):
                seen.update(batch)

        assert len(seen) == count


class TestBrokenStream:
    """Section 5.2: a lost ``unblock`` is recovered by nothing in the server, so what may be lost is sent again."""

    async def test_what_was_written_just_before_is_sent_again(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        await received(caller)
        clock.seconds += DOUBT_S - 1

        scene.hub.disconnect(caller, planned=False)

        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_what_was_written_long_before_is_not(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        await received(caller)
        clock.seconds += DOUBT_S + 1

        scene.hub.disconnect(caller, planned=False)

        assert await received(scene.worker("c1", group="callers")) == []

    async def test_what_was_never_written_is_sent_again_however_old(self, scene: Scene, clock: Clock) -> None:
        """A peer may be given longer to take a write than a written message stays in doubt."""
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        clock.seconds += 10 * DOUBT_S

        scene.hub.disconnect(caller, planned=False)

        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_doubt_begins_when_it_was_written(self, scene: Scene, clock: Clock) -> None:
        caller = scene.worker("c1", group="callers")
        scene.send(unblock("p"))
        clock.seconds += DOUBT_S + 1
        await received(caller)
        clock.seconds += 1

        scene.hub.disconnect(caller, planned=False)

        assert await received(scene.worker("c1", group="callers")) == ["p"]

    async def test_a_newer_connection_of_the_same_id_gets_it_too(self, scene: Scene) -> None:
        scene.worker("c1", group="callers")
        scene.send(unblock("p"))

        assert await received(scene.worker("c1", group="callers")) == ["p"]


class TestClosedStream:
    async def test_a_slow_reader_is_given_no_more_than_its_window_and_then_the_rest(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")

        scene.send(*(unblock(f"p-{number}") for number in range(UNBLOCK_WINDOW + 1)))

        assert len(await received(caller)) == UNBLOCK_WINDOW
        assert len(await received(caller)) == 1

    async def test_a_reader_that_keeps_up_is_not(self, scene: Scene) -> None:
        caller = scene.worker("c1", group="callers")
        for number in range(3 * UNBLOCK_WINDOW):
            scene.send(unblock(f"p-{number}"))
            await received(caller)

        assert not caller.closed

    async def test_nothing_of_a_slow_reader_is_lost(self, scene: Scene) -> None:
        slow = scene.worker("c1", group="callers")
        count = UNBLOCK_WINDOW + 5
        scene.send(*(unblock(f"p-{number}") for number in range(count)))
        scene.hub.disconnect(slow, planned=True)

        seen: set[str] = set()
        for _ in range(5):
            seen.update(await received(scene.worker("c1", group="callers")))

        assert len(seen) == count

    async def test_to_a_closing_stream_nothing_counts_as_delivered(self, scene: Scene) -> None:
        """Otherwise what is settled while the server stops is forgotten by the store and reaches nobody."""
        scene.worker("c1", group="callers")
        scene.hub.close_all()

        scene.send(unblock("p"))

        assert scene.delivered_unblocks == []

    async def test_any_prefers_a_stream_that_is_open(self, scene: Scene) -> None:
        scene.worker("c1", group="callers").close()
        caller = scene.worker("c2", group="callers")

        scene.send(unblock("p", ANY))

        assert await received(caller) == ["p"]
