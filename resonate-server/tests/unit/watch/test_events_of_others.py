"""Events of other servers: told in a short form, and told in the order in which they happened."""

import msgspec
import pytest
from unit.watch.scene import created, gone, settled, suspended

from resonate_server.protocol.payload import Excerpt, Payload
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.events import Event, PromiseSettled, TaskQueued, TaskSent, for_others, from_others
from resonate_server.watch.report_buffer import ReportBuffer
from resonate_server.watch.ring import Ring


@pytest.mark.parametrize("event", [created("p"), settled("p"), suspended("p", "c", ["a"]), gone()])
def test_another_server_reads_what_was_told(event: Event) -> None:
    assert from_others(for_others(event)) == event


def test_of_a_payload_its_beginning_is_told() -> None:
    event = from_others(for_others(settled("p", "x" * 100_000)))
    assert isinstance(event, PromiseSettled)
    assert event.state is PromiseState.RESOLVED
    assert event.value == Payload("x" * 256, cut=True, bytes=100_000)
    assert event.weight() == 256


@pytest.mark.parametrize("told", [b'{"kind":"task.invented"}', b"{}", b'{"kind":"worker.gone","seq":1}', b"[]"])
def test_what_is_not_known_here_is_refused(told: bytes) -> None:
    with pytest.raises(ValueError, match="not an event"):
        from_others(told)


def test_a_payload_is_written_for_the_page_as_if_it_were_our_own() -> None:
    own = settled("p", "short")
    assert isinstance(own.value, Excerpt)
    assert for_others(from_others(for_others(own))) == for_others(own)
    assert msgspec.json.decode(for_others(own))["value"] == {"text": "short", "cut": False, "bytes": 5}


def test_those_of_a_chain_are_told_in_the_order_in_which_they_happened() -> None:
    ring = Ring()
    for at in (3, 1, 2):
        event = settled("p")
        event.at = at
        ring.append(event)
    assert [event.at for event in ring.of("p")] == [1, 2, 3]


def test_what_happens_here_is_told_to_others_and_what_they_tell_is_not() -> None:
    told: list[Event] = []
    buffer = ReportBuffer(ring := Ring())
    buffer.tell_others = told.append
    buffer._take(gone("ours"))
    buffer.keep(gone("theirs"))

    assert [event.seq for event in told] == [1]
    assert ring.last == 2


def test_a_task_that_another_server_has_queued_belongs_to_its_chain_here() -> None:
    buffer = ReportBuffer(ring := Ring())
    buffer.keep(TaskQueued(0, 1, "chain", "t", "workers", 0, "created"))
    buffer.keep(TaskSent(0, 2, None, "t", "workers", "w", 0))
    assert [event.at for event in ring.of("chain")] == [1, 2]
