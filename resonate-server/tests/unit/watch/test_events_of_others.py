"""Events of other servers: sent in a short form, in the order in which they happened."""

import pytest
from unit.watch.scene import created, gone, settled, suspended

from resonate_server.protocol.payload import Payload
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.events import Event, PromiseSettled, TaskQueued, TaskSent, decode_from_peer, encode_for_peers
from resonate_server.watch.report_buffer import ReportBuffer
from resonate_server.watch.ring import Ring


@pytest.mark.parametrize("event", [created("p"), settled("p"), suspended("p", "c", ["a"]), gone()])
def test_another_server_can_read_an_event(event: Event) -> None:
    assert decode_from_peer(encode_for_peers(event)) == event


def test_only_the_beginning_of_a_payload_is_sent() -> None:
    event = decode_from_peer(encode_for_peers(settled("p", "x" * 100_000)))
    assert isinstance(event, PromiseSettled)
    assert event.state is PromiseState.RESOLVED
    assert event.value == Payload("x" * 256, cut=True, bytes=100_000)
    assert event.weight() == 256


@pytest.mark.parametrize("told", [b'{"kind":"task.invented"}', b"{}", b'{"kind":"worker.gone","seq":1}', b"[]"])
def test_unknown_events_are_refused(told: bytes) -> None:
    with pytest.raises(ValueError, match="unknown event"):
        decode_from_peer(told)


def test_a_task_that_another_server_has_queued_belongs_to_its_chain_here() -> None:
    buffer = ReportBuffer(ring := Ring())
    buffer.keep(TaskQueued(0, 1, "chain", "t", "workers", 0, "created"))
    buffer.keep(TaskSent(0, 2, None, "t", "workers", "w", 0))
    assert [event.at for event in ring.of("chain")] == [1, 2]
