"""Which worker an ``execute`` goes to: section 5.2 and 5.3, and section 9, items 3, 8, 11 and 12."""

import asyncio
import time

import pytest
from unit.delivery.stories import play
from unit.hubs import PORTION, Clock, Scene, execute, many, received, unblock, until

from resonate_server.delivery.hub import MAX_WAITING, MAX_WAITING_CHARACTERS, SLICE_S
from resonate_server.delivery.worker_stream import UNCLAIMED_MAX_S, UNCLAIMED_S, WINDOW
from resonate_server.protocol.messages import Execute

ABSENT = "poll://uni@workers/absent"

STORIES = {
    "without a worker nothing is kept: the store keeps it": "a +w1 | w1=",
    # Claimed, settled or halted tasks are not offered: section 9, item 8.
    "an unsent message is taken back": "+w1 a -a | w1=",
    "so is one that waits": "+w1 a>uni/w2 -a +w2 | w2=",
    "twice is once, and of what is unknown is nothing": "+w1 a b -a -a -unknown | w1=b",
    "a task may come again later": "+w1 a -a a | w1=a",
    # The tasks of a lost worker.
    "what it had not claimed goes to another": "+w1 +w2 a>any/w1 w1? w1! | w2=a",
    "all of it, to those who are left": "+w1 +w2 a b c d w2? w1! | w2=a,c",
    "so does what was not even written": "+w1 a +w2 w1! | w2=a",
    "what it had claimed does not": "+w1 +w2 a>any/w1 -a w1! | w2=",
    "what its older stream had not claimed is sent again": "+w1 a +w1 | w1=a",
    "what comes while the only one is closed waits for the next": "+w1 w1:closed a +w2 | w1= w2=a",
    # Which workers an address names: sections 2.4 and 5.3.
    "uni is that worker and nobody else": "+w1 +w2 a>uni/w2 b>uni/w2 c>uni/w2 | w1= w2=a,b,c",
    "uni without an id is nobody": "+w1 a>uni | w1=",
    "uni does not fall back when that worker is gone": "+w1 +w2 a>uni/w2 w2! | w1=",
    "ids are case-sensitive": "+W1 a>uni/w1 | W1=",
    "any with an id prefers it (section 7.2, item 8)": "+w1 +w2 a>any/w2 b>any/w2 c>any/w2 | w1= w2=a,b,c",
    "any with an absent id is anybody": "+w1 a>any/w2 | w1=a",
    # The retry of a task that a worker was offered and did not claim.
    "another worker is tried": "+w1 a w1? +w2 a | w1= w2=a",
    "even if the first is the named one": "+w1 a>any/w1 w1? +w2 a>any/w1 | w1= w2=a",
    "if there is no other, the same is told again": "+w1 a w1? a | w1=a",
    "uni is told again": "+w1 +w2 a>uni/w1 w1? a>uni/w1 | w1=a w2=",
    # A worker that let a lease lapse although its stream is open may be frozen.
    "it is passed over though it was its turn": "+w1 +w2 w1:silent a | w1= w2=a",
    "also if it is preferred": "+w1 +w2 w1:silent a>any/w1 | w1= w2=a",
    "what it was sent and did not claim goes to another": "+w1 a w1? +w2 w1:silent | w1= w2=a",
    "if there is no other, it is told once": "+w1 early w1? w1:silent late | w1=late",
    "a uni address still means it": "+w1 +w2 w1:silent a>uni/w1 | w1=a w2=",
    "once it is heard of, it takes its turn": "+w1 +w2 w1:silent w1:heard a | w1=a w2=",
    "a new stream is a sign of life": "+w1 +w2 w1:silent +w1 a b | w1=b w2=a",
    "it is not passed over for ever": "+w1 +w2 w1:silent later a | w1=a w2=",
    # A worker that claims nothing may be frozen, although it holds no lease that lapses.
    "it is avoided": "+w1 +w2 a>any/w1 w1? later 5s round b>any/w1 c | w1= w2=b,c",
    "not if it was heard from meanwhile": "+w1 +w2 a>any/w1 w1? later w1:heard 5s round b>any/w1 | w1=b w2=",
    "nor for ever": "+w1 +w2 a>any/w1 w1? later 5s round later b>any/w1 | w1=b w2=",
    "nor if there is no other": "+w1 a w1? later 5s round b | w1=b",
    # What it has not claimed is set aside.
    "once, and then it belongs to no worker": "+w1 a 5s round round w1! +w2 | w2= aside=w1:a",
    "so is what a busy worker passed over, as SDKs claim in order": (
        "+w1 w1:busy a b c d e -d 5s round | aside=w1:a,w1:b,w1:c"
    ),
    # A worker whose stream this server has closed.
    "it gets no task": "+w1 +w2 w1:closed a b c | w1= w2=a,b,c",
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_story(scene: Scene, clock: Clock, story: str) -> None:
    assert await play(story, scene, clock) == story.partition(" | ")[2]


async def test_a_message_or_the_end_of_the_stream_ends_its_waiting_at_once(scene: Scene) -> None:
    connection = scene.worker()
    waiting = asyncio.create_task(connection.wait(60))
    await asyncio.sleep(0)
    scene.send(execute("t"))
    assert await waiting == [execute("t")]
    connection.close()
    assert await connection.wait(60) == []


class TestRefill:
    """Section 9, item 3: tasks that wait for the group are handed over the moment a worker connects."""

    async def test_every_worker_that_connects_causes_a_refill_unless_an_answer_is_pending(self, scene: Scene) -> None:
        scene.worker("w1")
        for id in ("w2", "w3"):
            scene.hub.connect("workers", id)
            assert [group for group, _ in scene.refills] == ["workers"]

    @pytest.mark.parametrize(
        ("tasks", "complete", "asked"),
        [
            pytest.param(many(3), False, ["workers"], id="there is more"),
            pytest.param(many(3), True, [], id="there is no more"),
            pytest.param(many(100, ABSENT), False, [], id="no worker is there for what has come"),
        ],
    )
    async def test_another_request_follows_if_there_is_more_for_those_who_are_there(
        self, scene: Scene, tasks: list[Execute], complete: bool, asked: list[str]
    ) -> None:
        scene.hub.connect("workers", "w1")
        scene.refills.clear()
        scene.hub.refill("workers", tasks, complete)
        scene.claim("t-0", "t-1", "t-2")
        assert [group for group, _ in scene.refills] == asked

    async def test_for_a_group_that_is_gone_it_is_forgotten(self, scene: Scene) -> None:
        scene.hub.disconnect(scene.hub.connect("workers", "w1"), planned=False)
        scene.hub.refill("workers", many(3), complete=True)
        assert await received(scene.hub.connect("workers", "w1")) == []


class TestWindow:
    async def test_a_worker_is_offered_only_so_many_tasks_and_a_claim_makes_room_for_the_next(
        self, scene: Scene
    ) -> None:
        worker = scene.worker()
        scene.send(*many(WINDOW + 2))
        assert len(await received(worker)) == WINDOW
        scene.claim("t-0")
        assert await received(worker) == [f"t-{WINDOW}"]

    async def test_the_remaining_tasks_go_to_the_next_worker_that_connects(self, scene: Scene) -> None:
        scene.worker("w1")
        scene.send(*many(WINDOW + 2))
        assert len(await received(scene.worker("w2"))) == 2

    async def test_tasks_for_an_absent_worker_do_not_hold_up_others(self, scene: Scene) -> None:
        worker = scene.hub.connect("workers", "w1")
        absent = many(3 * WINDOW, ABSENT, prefix="absent")
        scene.hub.refill("workers", [*absent, execute("t")], complete=True)
        assert await received(worker) == ["t"]


@pytest.mark.parametrize(("planned", "state"), [(False, "silent"), (True, "connected")])
async def test_presence_is_told_of_a_lost_worker(scene: Scene, planned: bool, state: str) -> None:
    """Section 9, items 4 and 19."""
    scene.hub.disconnect(scene.worker("w1"), planned)
    assert [member.state for member in scene.presence.members()] == [state]


async def test_of_two_connections_the_older_is_closed_and_its_end_changes_nothing(scene: Scene) -> None:
    """Section 9, item 11: an id is one process; its older connection is stale."""
    older, newer = scene.worker("w1"), scene.worker("w1")
    assert (older.closed, newer.closed) == (True, False)
    scene.hub.disconnect(older, planned=False)
    scene.send(execute("t", "poll://uni@workers/w1"))
    assert await received(newer) == ["t"]
    assert [member.state for member in scene.presence.members()] == ["connected"]


class TestChoice:
    """Section 2.4 and 5.3."""

    async def test_any_rotates_even_among_idle_workers(self, scene: Scene) -> None:
        workers = [scene.worker(f"w{number}") for number in range(3)]

        got: list[int] = []
        for task in many(6):
            scene.send(task)
            got += [number for number, worker in enumerate(workers) if await received(worker)]
            scene.claim(task.task_id)

        assert sorted(got) == [0, 0, 1, 1, 2, 2]

    async def test_any_selects_the_least_loaded_worker(self, scene: Scene) -> None:
        """Section 9, item 12."""
        busy, idle = scene.worker("w1"), scene.worker("w2")
        scene.send(*many(5, "poll://uni@workers/w1", prefix="busy"))
        scene.send(*many(5))
        assert (len(await received(busy)), len(await received(idle))) == (5, 5)

    async def test_there_is_one_message_per_task_and_the_newest_counts(self, scene: Scene) -> None:
        worker = scene.worker()
        scene.send(execute("t", version=0))
        scene.send(execute("t", version=1))
        assert await worker.wait(0) == [execute("t", version=1)]


class TestUnclaimed:
    """A task that was handed out and not claimed gives up its place and is set aside by its owner."""

    async def test_after_some_seconds_unclaimed_tasks_give_up_their_places(self, scene: Scene, clock: Clock) -> None:
        worker = scene.worker()
        scene.send(*many(WINDOW), execute("good"))
        await received(worker)
        clock.seconds += UNCLAIMED_S - 0.1
        scene.hub.run_round()
        assert (await received(worker), scene.set_aside) == ([], [])
        clock.seconds += 0.1

        scene.hub.run_round()

        assert await received(worker) == ["good"]
        assert scene.set_aside == [("w1", [f"t-{number}" for number in range(WINDOW)])]

    async def test_unclaimed_tasks_are_set_aside_unprompted(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resonate_server.delivery.hub.ROUND_S", 0.01)
        monkeypatch.setattr("resonate_server.delivery.worker_stream.UNCLAIMED_S", 0.02)
        worker = scene.worker()
        scene.hub.connect("workers", "w2")  # The first connection has started the rounds at the usual pace.
        scene.hub.stop()
        scene.worker("w3")
        scene.send(execute("t", "poll://uni@workers/w1"))
        await received(worker)

        await until(lambda: scene.set_aside)

    async def test_a_working_worker_may_be_full_and_keeps_tasks_longer_each_time(
        self, scene: Scene, clock: Clock
    ) -> None:
        scene.worker()
        patience: list[float] = []
        for number in range(4):
            scene.send(execute(f"t-{number}"))
            began = clock.seconds
            while len(scene.set_aside) == number:
                clock.seconds += 1
                scene.hub.run_round()
            patience.append(clock.seconds - began)
            scene.hub.is_at_work("workers", "w1")

        assert patience == [UNCLAIMED_S, 2 * UNCLAIMED_S, UNCLAIMED_MAX_S, UNCLAIMED_MAX_S]

    async def test_a_planned_reconnection_recalls_nothing_more(self, scene: Scene) -> None:
        scene.hub.disconnect(scene.worker("w1"), planned=True)
        scene.worker("w1")
        assert scene.recalled == ["workers"]

    async def test_very_many_unclaimed_tasks_do_not_block_the_event_loop(self, scene: Scene, clock: Clock) -> None:
        workers = [scene.worker(f"w{number}") for number in range(10)]
        scene.send(*many(10 * WINDOW))
        clock.seconds += UNCLAIMED_S
        clock.step = SLICE_S / 4

        scene.hub.run_round()
        assert 0 < len(scene.set_aside) < len(workers)
        for _ in workers:
            scene.hub.run_round()

        assert sum(len(ids) for _, ids in scene.set_aside) == 10 * WINDOW


class TestOrder:
    """A worker with room gets what came first of all that waits for it, whichever address it was sent to."""

    async def test_unclaimed_tasks_of_a_worker_that_left_come_first(self, scene: Scene) -> None:
        leaving, full = scene.worker("w1"), scene.worker("w2")
        scene.send(*many(2 * WINDOW))
        mine = await received(leaving)
        theirs = await received(full)
        scene.send(execute("later"))

        scene.hub.disconnect(leaving, planned=False)
        scene.claim(*theirs[:3])

        assert await received(full) == mine[:3]

    async def test_tasks_for_a_lost_worker_alone_are_left_to_the_store(self, scene: Scene) -> None:
        leaving, full = scene.worker("w1"), scene.worker("w2")
        scene.send(*many(2 * WINDOW), execute("alone", "poll://uni@workers/w1"))
        theirs = await received(full)
        scene.hub.disconnect(leaving, planned=False)

        back = scene.hub.connect("workers", "w1")
        scene.hub.refill("workers", [execute("alone", "poll://uni@workers/w1")], complete=True)

        scene.claim(*theirs, *await received(back))
        assert await received(back) == ["alone"]


class TestMemory:
    """The hub holds a limited number of tasks that wait for room; the rest stay in the store."""

    async def test_the_waiting_tasks_of_a_group_are_limited(self, scene: Scene) -> None:
        worker = scene.worker()
        scene.send(*many(WINDOW + MAX_WAITING + 5))
        assert len(scene.waiting) == MAX_WAITING
        await received(worker)

        scene.claim(*(f"t-{number}" for number in range(WINDOW)))
        while not scene.refills:
            scene.claim(*await received(worker))

        assert [group for group, _ in scene.refills] == ["workers"]

    async def test_the_waiting_characters_of_all_groups_together_are_limited(self, scene: Scene) -> None:
        scene.worker("w1"), scene.worker("w2", group="others")
        long = "x" * 4_000
        count = 2 * MAX_WAITING_CHARACTERS // len(long) // 2

        for group in ("workers", "others"):
            scene.send(*many(count, f"poll://any@{group}", prefix=long + group))

        assert len(scene.waiting) * len(long) <= MAX_WAITING_CHARACTERS + len(long)

    @pytest.mark.parametrize("end", ["claimed", "withdrawn", "deserted", "reset"])
    async def test_tasks_that_stop_waiting_make_room_for_others(self, scene: Scene, end: str) -> None:
        worker = scene.worker("w1", group="greedy")
        scene.send(*many(WINDOW, "poll://any@greedy", prefix="full"))
        long = [f"{number}" + "x" * (MAX_WAITING_CHARACTERS // 4) for number in range(4)]
        scene.send(*[execute(id, "poll://any@greedy") for id in long])
        await received(worker)

        match end:
            case "claimed":
                scene.claim(*[f"full-{number}" for number in range(4)])
            case "withdrawn":
                scene.claim(*long)
            case "deserted":
                scene.hub.disconnect(worker, planned=False)
            case "reset":
                scene.hub.reset()

        modest = scene.worker("w2", group="modest")
        scene.send(*many(WINDOW + 1, "poll://any@modest", prefix="modest"))
        scene.claim(*await received(modest))
        assert await received(modest) == [f"modest-{WINDOW}"]

    async def test_a_group_crowded_out_by_others_is_still_served(self, scene: Scene) -> None:
        for group in ("greedy", "greedier"):
            scene.worker("w1", group=group)
            scene.send(*many(MAX_WAITING, f"poll://any@{group}", prefix=group + "x" * 4_000))
        modest = scene.hub.connect("modest", "w2")

        scene.hub.refill("modest", many(WINDOW + 1, "poll://any@modest"), complete=True)
        assert len(await received(modest)) == WINDOW
        scene.refills.clear()
        scene.claim("t-0")

        assert [group for group, _ in scene.refills] == ["modest"]


async def test_ten_thousand_tasks_and_a_thousand_workers(scene: Scene) -> None:
    """Each event of a task or worker costs the same, however many there are."""
    workers = [scene.worker(f"w{number}") for number in range(1_000)]
    tasks = many(10_000)
    began = time.process_time()
    scene.send(*tasks)
    scene.claim(*(task.task_id for task in tasks))
    took = time.process_time() - began

    assert sum([len(await received(worker)) for worker in workers]) == 0
    assert took < 4  # Takes 0.2 s; 15 s if each event scanned all workers.


async def test_everything_owed_is_requested_again_in_portions(scene: Scene) -> None:
    workers = [scene.worker("w1"), scene.worker("w2", group="others")]
    urls = [f"http://callers/{number}" for number in range(3 * PORTION - 1)]
    scene.send(*[unblock("p", url) for url in urls])
    scene.pushed.clear()
    scene.hub.refresh()
    assert {group for group, _ in scene.refills} == {"workers", "others"}
    assert [url for _, url in scene.pushed] == urls
    scene.hub.close_all()
    assert all(worker.closed for worker in workers)
