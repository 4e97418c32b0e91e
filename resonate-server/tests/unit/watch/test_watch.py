"""Reports become events in their order when a reader asks, or else a moment later; so do those of other servers."""

import pytest
from unit.driver import LEASE, Driver
from unit.hubs import until
from unit.watch.scene import created, gone, settled, suspended

from resonate_server.protocol.payload import Payload
from resonate_server.protocol.records import PromiseState
from resonate_server.watch import derive, watch
from resonate_server.watch.events import Event, PromiseSettled, TaskQueued, TaskSent, decode_from_peer, encode_for_peers
from resonate_server.watch.ring import Ring
from resonate_server.watch.watch import MAX_OFFERED_CHARACTERS, MAX_REPORTS, ReportBuffer


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
    monkeypatch.setattr(watch, "CLEARED_AFTER_S", 0.01)
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


def test_offers_are_remembered_within_bounds() -> None:
    """Ids come from clients."""
    buffer = ReportBuffer(Ring())
    for number in range(3_000):
        for _ in range(2):
            buffer.keep(TaskQueued(0, 1, "c" * 4_000, f"{number:04}" * 1_000, None, 0, "created"))
    assert sum(len(id) + len(chain) for id, chain in buffer._offered.items()) <= MAX_OFFERED_CHARACTERS
    assert len(buffer._offered) > 500


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


# ── events of other servers ──


@pytest.mark.parametrize("event", [created("p"), settled("p"), suspended("p", "c", ["a"]), gone()])
def test_another_server_can_read_an_event(event: Event) -> None:
    assert decode_from_peer(encode_for_peers(event)) == event


def test_only_the_beginning_of_a_payload_is_sent() -> None:
    event = decode_from_peer(encode_for_peers(settled("p", "x" * 100_000)))
    assert isinstance(event, PromiseSettled)
    assert event.state is PromiseState.RESOLVED
    assert event.value == Payload("x" * 256, cut=True, bytes=100_000)
    assert event.weight() < 300


@pytest.mark.parametrize("told", [b'{"kind":"task.invented"}', b"{}", b'{"kind":"worker.gone","seq":1}', b"[]"])
def test_unknown_events_are_refused(told: bytes) -> None:
    with pytest.raises(ValueError, match="unknown event"):
        decode_from_peer(told)


def test_a_task_that_another_server_has_queued_belongs_to_its_chain_here() -> None:
    buffer = ReportBuffer(ring := Ring())
    buffer.keep(TaskQueued(0, 1, "chain", "t", "workers", 0, "created"))
    buffer.keep(TaskSent(0, 2, None, "t", "workers", "w", 0))
    assert [event.at for event in ring.of("chain")] == [1, 2]
