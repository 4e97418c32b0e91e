"""The report buffer: reports become events in their order when a reader asks, or else a moment later."""

import pytest
from unit.driver import LEASE, Driver
from unit.hubs import until
from unit.watch.scene import gone

from resonate_server.watch import derive, report_buffer
from resonate_server.watch.events import Event, TaskSent
from resonate_server.watch.report_buffer import MAX_REPORTS, ReportBuffer
from resonate_server.watch.ring import Ring


class Scene:
    """A buffer with its ring."""

    def __init__(self) -> None:
        self.ring = Ring()
        self.buffer = ReportBuffer(self.ring)
        self.driver = Driver()

    def report(self) -> None:
        """Report what the driver has decided since the last report."""
        for decided in self.driver.decided:
            self.buffer.put(decided)
        self.driver.decided.clear()

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.ring.after(0, 1_000)]


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_reader_finds_decisions_and_events_in_their_order(scene: Scene) -> None:
    scene.driver.create("t")
    scene.report()
    scene.buffer.put(gone())
    scene.driver.acquire("t")
    scene.report()
    assert scene.kinds() == ["PromiseCreated", "TaskQueued", "WorkerGone", "TaskClaimed"]


async def test_the_buffer_is_cleared_soon_even_without_readers(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_buffer, "CLEARED_AFTER_S", 0.01)
    taken: list[Event] = []
    monkeypatch.setattr(scene.ring, "append", taken.append)
    for _ in range(2):
        taken.clear()
        scene.buffer.put(gone())
        await until(lambda: taken)


async def test_the_buffer_never_grows_beyond_its_limit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Event] = []
    monkeypatch.setattr(scene.ring, "append", taken.append)
    for _ in range(2 * MAX_REPORTS + 1):
        scene.buffer.put(gone())
    assert len(taken) == 2 * MAX_REPORTS


async def test_the_event_of_an_offer_names_the_chain_that_the_task_was_queued_with(scene: Scene) -> None:
    scene.driver.create("foo:1", origin="foo")
    scene.report()
    scene.buffer.put(TaskSent(0, 1, None, "foo:1", "workers", "pid", 0))
    scene.buffer.put(TaskSent(0, 1, None, "unknown", "workers", "pid", 0))
    *_, known, unknown = scene.ring.after(0, 1_000)
    assert isinstance(known, TaskSent) and known.chain == "foo"
    assert isinstance(unknown, TaskSent) and unknown.chain is None


async def test_a_decision_that_cannot_be_turned_into_events_does_not_block_the_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.driver.acquired("t")
    scene.driver.wait(LEASE)
    scene.report()
    monkeypatch.setattr(derive, "events", lambda _: 1 / 0)
    scene.buffer.put(gone())

    assert scene.kinds() == ["WorkerGone"]
    assert "could not report a decision" in caplog.text
