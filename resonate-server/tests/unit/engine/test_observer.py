"""The engine reports each decision and its time to the observer, whose failures do not disturb its own work."""

from collections.abc import AsyncIterator, Callable

import pytest
from unit.driver import PID, SECOND, START, TARGET, promise_create, task_acquire
from unit.engines import Bench

from resonate_server.engine.outbound import DecisionObserver
from resonate_server.kernel.model import Rules
from resonate_server.protocol.messages import Execute
from resonate_server.protocol.requests import PromiseRegisterListener
from resonate_server.store import Decided

LISTENER = "poll://uni@callers/c1"
DEADLINE = START + 60 * SECOND


class Witness(DecisionObserver):
    def __init__(self, bench: Bench) -> None:
        self.seen: list[Decided] = []
        self.bench = bench
        bench.engine.observers.append(self)

    def decided(self, decided: Decided) -> None:
        self.seen.append(decided)


@pytest.fixture
async def scene() -> AsyncIterator[Witness]:
    """Task ``queued`` waits for a worker, ``held`` has one; both have a listener and the same deadline."""
    async with Bench(rules=Rules(retry_timeout_ms=1_000 * SECOND)).at_work() as bench:
        for id in ("queued", "held"):
            await bench.call(promise_create(id, timeout_at=DEADLINE), PromiseRegisterListener(id, LISTENER))
        await bench.call(task_acquire("held", ttl=1_000 * SECOND))
        await bench.settle_down()
        yield Witness(bench)


def set_aside(bench: Bench) -> None:
    bench.engine.unclaimed("workers", PID, [Execute(task_id="queued", version=0, target=TARGET)])


def recall(bench: Bench) -> None:
    set_aside(bench)
    bench.engine.request_recall("workers")


def take_back(bench: Bench) -> None:
    bench.engine.worker_gone("workers", PID)


BY_ITSELF: dict[str, tuple[Callable[[Bench], None], list[str]]] = {
    "set aside": (set_aside, ["queued"]),
    "recall": (recall, ["queued", "queued"]),
    "take back": (take_back, ["held"]),
}
each_way = pytest.mark.parametrize(("act", "moved"), BY_ITSELF.values(), ids=BY_ITSELF)


@each_way
async def test_the_server_s_own_decisions_are_reported_with_their_time(
    scene: Witness, act: Callable[[Bench], None], moved: list[str]
) -> None:
    scene.bench.now += SECOND

    act(scene.bench)
    await scene.bench.until(lambda: len(scene.seen) == len(moved))

    assert [id for each in scene.seen for id in each.decision.changes.tasks] == moved
    assert {each.now for each in scene.seen} == {START + SECOND}
    assert {id for each in scene.seen for id in each.rows.tasks} == set(moved)
    assert {each.request for each in scene.seen} == {None}


@each_way
async def test_past_the_deadline_its_own_work_settles_promises_and_reports_that(
    scene: Witness, act: Callable[[Bench], None], moved: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    scene.bench.now = DEADLINE
    act(scene.bench)
    await scene.bench.until(lambda: len(scene.bench.notes.unblocks) == 2)
    assert {unblock.promise.id for unblock in scene.bench.notes.unblocks} == {"queued", "held"}
    assert "failed" not in caplog.text
    assert moved
