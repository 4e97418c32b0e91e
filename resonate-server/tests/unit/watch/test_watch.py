"""Reports of this server and of others become events, in their order."""

from typing import cast

import pytest
from unit.driver import LEASE, Driver
from unit.hubs import execute
from unit.watch.scene import created, gone, settled, task

from resonate_server.delivery.presence import Change
from resonate_server.protocol.payload import Payload
from resonate_server.protocol.records import PromiseState
from resonate_server.watch import Watch, derive
from resonate_server.watch.chain_reader import RowReader
from resonate_server.watch.events import Event, PromiseSettled, What, decode_from_peer, encode_for_peers


class Scene:
    """A watch, and a driver whose decisions are reported to it."""

    def __init__(self) -> None:
        self.watch = Watch(cast("RowReader", None), list, lambda: 1)
        self.driver = Driver()

    def report(self) -> None:
        """Report what the driver has decided since the last report."""
        for decided in self.driver.decided:
            self.watch.decided(decided)
        self.driver.decided.clear()

    def worker_gone(self) -> None:
        self.watch.worker_changed(Change.GONE, "workers", "pid")

    def events(self) -> list[Event]:
        return self.watch.ring.after(0, 1_000)

    def kinds(self) -> list[What]:
        return [event.kind for event in self.events()]


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_reader_finds_decisions_and_events_in_their_order(scene: Scene) -> None:
    scene.driver.create("t")
    scene.report()
    scene.worker_gone()
    scene.driver.acquire("t")
    scene.report()
    assert scene.kinds() == [What.CREATED, What.QUEUED, What.GONE, What.CLAIMED]


async def test_a_decision_that_cannot_be_turned_into_events_does_not_block_the_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.driver.acquired("t")
    scene.driver.wait(LEASE)
    monkeypatch.setattr(derive, "events", lambda _: 1 / 0)
    scene.report()
    scene.worker_gone()

    assert scene.kinds() == [What.GONE]
    assert "could not report a decision" in caplog.text


# ── events of other servers ──


@pytest.mark.parametrize("event", [created("p"), settled("p"), task(What.SUSPENDED, on=["a"]), gone()])
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


async def test_offers_of_this_server_and_of_others_are_found_with_their_promise(scene: Scene) -> None:
    scene.watch.take(task(What.SENT, id="t"))
    scene.watch.task_sent("workers", "pid", execute("t"))
    assert [event.kind for event in scene.watch.ring.of(["t"])] == [What.SENT] * 2
