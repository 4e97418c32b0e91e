"""The survey of groups, with a clock of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from unit.rows import NOW, promise, task, write

from resonate_server.protocol.records import TaskState
from resonate_server.store.sqlite import IN_MEMORY, Database
from resonate_server.store.view import View
from resonate_server.watch.survey import MAX_GROUPS, REMEMBERED_MS, Survey


class Scene:
    def __init__(self, store: Database) -> None:
        self.store = store
        self.workers: dict[str, int] = {}
        self.seconds = 0.0
        self.survey = Survey(self, lambda: self.workers, lambda: round(self.seconds * 1_000))

    async def read[T](self, query: Callable[[View], T]) -> T:
        return query(self.store)

    async def names(self) -> list[str]:
        await self.survey.look()
        connected, *_ = self.survey.collect()
        return [sample.labels["group"] for sample in connected.samples]

    async def ages(self, after: float) -> tuple[float, float]:
        """Pass ``after`` seconds; return the ages (s) of the oldest waiting task and of the oldest held one."""
        await self.survey.look()
        self.seconds += after
        await self.survey.look()
        *_, oldest = self.survey.collect()
        waiting, held = [sample.value for sample in oldest.samples]
        return waiting, held


@pytest.fixture
def scene() -> Iterator[Scene]:
    store = Database(Path(IN_MEMORY))
    yield Scene(store)
    store.close()


async def test_a_task_ages_while_it_is_unclaimed_or_the_same_claim_lasts(scene: Scene) -> None:
    held = replace(task("h", TaskState.ACQUIRED, pid="p"), version=1)
    write(scene.store, promise("t"), replace(task("t", queued=True), version=1), held)
    assert await scene.ages(after=5) == (5, 5)
    write(scene.store, replace(task("t", TaskState.ACQUIRED, pid="q"), version=2), replace(held, timer_at=99_000))
    assert await scene.ages(after=2) == (0, 7)
    write(scene.store, replace(held, version=2), task("t", TaskState.FULFILLED))
    assert await scene.ages(after=1) == (0, 1)


@pytest.mark.parametrize(("delay", "age"), [(0, 9), (4_000, 5), (60_000, 0)])
async def test_a_task_never_claimed_ages_from_its_creation_or_the_end_of_its_delay(
    scene: Scene, delay: int, age: int
) -> None:
    """The same holds after a restart."""
    scene.seconds = NOW / 1_000 + 9
    write(scene.store, promise("t", tags={"resonate:delay": f"{NOW + delay}"}), task("t", queued=True))
    assert await scene.ages(after=0) == (age, 0)


async def test_a_group_without_workers_and_tasks_is_forgotten_after_an_hour(scene: Scene) -> None:
    scene.workers = {"bar": 1}
    assert await scene.names() == ["bar"]
    scene.workers = {}
    scene.seconds += REMEMBERED_MS / 1_000 - 1
    assert await scene.names() == ["bar"]
    scene.seconds += 2
    assert await scene.names() == []


async def test_the_number_of_names_made_up_by_clients_is_limited(scene: Scene) -> None:
    scene.workers = {"long" * 1_000: 1, **{f"group-{number}": 1 for number in range(MAX_GROUPS + 1)}}
    assert await scene.names() == [f"group-{number}" for number in range(1, MAX_GROUPS + 1)]


async def test_each_time_a_group_loses_its_workers_is_reported_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    write(scene.store, task("t", queued=True))
    for _ in range(3):
        [group] = await scene.names()
    scene.workers = {group: 1}
    await scene.survey.look()
    scene.workers = {}
    for _ in range(3):
        await scene.survey.look()
    assert caplog.messages == [f"group {group} has no workers; tasks that wait for one: 1"] * 2
