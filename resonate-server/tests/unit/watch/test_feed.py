"""The feed: where a viewer starts, what it is given, and when it is dropped."""

import asyncio

import msgspec
import pytest
from msgspec.structs import replace
from unit.watch.scene import created, gone, settled, suspended

from resonate_server.watch.events import Event
from resonate_server.watch.feed import MAX_LINES, MAX_VIEWERS, Feed, Overtaken, Viewer
from resonate_server.watch.ring import Ring


class Scene:
    """A small ring and its feed."""

    def __init__(self) -> None:
        self.ring = Ring(max_events=1_000)
        self.feed = Feed(self.ring)

    def happen(self, *events: Event) -> None:
        for event in events:
            self.ring.append(event)
        self.feed.reported()

    def taken(self, viewer: Viewer) -> list[dict[str, object]]:
        return [msgspec.json.decode(line) for line in self.feed.take(viewer).splitlines()]

    def ids(self, viewer: Viewer) -> list[object]:
        return [event.get("id") for event in self.taken(viewer)]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def viewer(scene: Scene) -> Viewer:
    return scene.feed.open("", "")[0]


class TestBeginning:
    def test_a_new_viewer_sees_what_happens_from_now_on(self, scene: Scene) -> None:
        scene.happen(settled("before"))
        viewer, resumed = scene.feed.open("", "")
        scene.happen(settled("after"))
        assert not resumed
        assert scene.ids(viewer) == ["after"]

    def test_a_viewer_that_reconnects_continues_where_it_was(self, scene: Scene) -> None:
        scene.happen(settled("seen"), settled("missed"))
        viewer, resumed = scene.feed.open("", f"{scene.ring.epoch}:1")
        assert resumed
        assert scene.ids(viewer) == ["missed"]

    @pytest.mark.parametrize(
        "after", ["other:1", "1", ":", "{0}:", "{0}:-1", "{0}:x", "{0}:²", "{0}:2", "{0}:" + "9" * 99]
    )
    def test_a_viewer_with_an_unknown_position_starts_over(self, scene: Scene, after: str) -> None:
        scene.happen(settled("p"))
        viewer, resumed = scene.feed.open("", after.format(scene.ring.epoch))
        assert (viewer.seq, resumed) == (1, False)

    def test_a_viewer_with_a_forgotten_position_starts_over(self, scene: Scene) -> None:
        scene.happen(*[gone() for _ in range(1_500)])
        assert not scene.feed.open("", f"{scene.ring.epoch}:499")[1]
        assert scene.feed.open("", f"{scene.ring.epoch}:500")[1]

    def test_a_viewer_beyond_the_limit_replaces_the_oldest(self, scene: Scene) -> None:
        viewers = [scene.feed.open("", "")[0] for _ in range(MAX_VIEWERS + 1)]
        assert [viewer.is_open for viewer in viewers] == [False] + [True] * MAX_VIEWERS


class TestTaking:
    def test_many_events_are_given_in_portions(self, scene: Scene, viewer: Viewer) -> None:
        scene.happen(*[gone() for _ in range(MAX_LINES + 1)])
        assert [len(scene.taken(viewer)) for _ in range(3)] == [MAX_LINES, 1, 0]

    def test_each_viewer_gets_everything(self, scene: Scene) -> None:
        viewers = [scene.feed.open("", "")[0] for _ in range(3)]
        scene.happen(settled("p"))
        assert [scene.ids(viewer) for viewer in viewers] == [["p"]] * 3

    def test_a_viewer_that_is_too_slow_is_dropped(self, scene: Scene, viewer: Viewer) -> None:
        scene.happen(*[gone() for _ in range(1_001)])
        with pytest.raises(Overtaken):
            scene.feed.take(viewer)


class TestPrefix:
    def test_ids_of_others_are_not_revealed(self, scene: Scene) -> None:
        viewer, _ = scene.feed.open("mine", "")
        scene.happen(settled("mine"), settled("yours"), settled("mine:1", chain="mine"))
        assert scene.ids(viewer) == ["mine", "mine:1"]

    def test_ids_of_others_are_not_revealed_in_other_members_of_an_event(self, scene: Scene) -> None:
        viewer, _ = scene.feed.open("mine", "")
        scene.happen(created("mine", "yours", parent="yours"), suspended("mine", "yours", on=["yours:1", "mine:2"]))
        first, second = scene.taken(viewer)
        assert (first["chain"], first["parent"]) == (None, None)
        assert (second["chain"], second["on"]) == (None, ["mine:2"])

    def test_workers_of_others_are_not_revealed(self, scene: Scene) -> None:
        viewer, _ = scene.feed.open("mine", "")
        scene.happen(gone(), replace(gone(), group="mine.workers"))
        assert [event["group"] for event in scene.taken(viewer)] == ["mine.workers"]

    def test_numbers_do_not_reveal_how_much_others_do(self, scene: Scene) -> None:
        scene.happen(*[settled(id) for id in ("yours", "mine", "yours", "yours")])
        viewer, resumed = scene.feed.open("mine", f"{scene.ring.epoch}:1", past=1_000)
        scene.happen(settled("yours"), settled("mine"))
        assert (resumed, scene.feed.next(viewer, resumed)) == (False, 2)
        scene.happen(settled("mine"))
        assert [event["seq"] for event in scene.taken(viewer)] == [1, 2, 3]


class TestWaiting:
    @pytest.mark.parametrize("end", ["something happens", "the server stops"])
    async def test_waiting_ends_when(self, scene: Scene, viewer: Viewer, end: str) -> None:
        waiting = asyncio.create_task(scene.feed.wait(viewer, 60))
        await asyncio.sleep(0)
        scene.happen(gone()) if end == "something happens" else scene.feed.close()
        async with asyncio.timeout(30):
            await waiting

    async def test_there_is_no_waiting_while_something_is_left(self, scene: Scene, viewer: Viewer) -> None:
        scene.happen(gone())
        async with asyncio.timeout(30):
            await scene.feed.wait(viewer, 60)
