"""Spans of attempts that their workers did not end, as an OTLP receiver sees them."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness.basics import wait_until
from harness.otlp import Receiver, Seen, endless_answers, running_receiver
from harness.server import FAR, Client, ServerProcess
from integration.calls import acquire, action, awaiting, named
from integration.servers import Start

from resonate_server import build
from resonate_server.config import load
from resonate_server.store.sqlite import IN_MEMORY

TRACE, CALLER = "a" * 32, "b" * 16
SIGNED: dict[str, Any] = {"headers": {"traceparent": f"00-{TRACE}-{CALLER}-01"}, "data": "eyJmdW5jIjogImJhciJ9"}
"""The parameter of a call of the function bar."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def server(start_for_all: Start, receiver: Receiver) -> ServerProcess:
    return start_for_all("state.db", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)


def claim(client: Client, id: str, ttl: int = 3_600_000, **param: Any) -> None:
    """Create a call and begin it, as a worker that is never heard from again."""
    tags = named({"target": "poll://any@group", "external": "true"})
    call = action("promise.create", id=id, timeoutAt=FAR, param=param, tags=tags)
    assert client.call("task.create", pid="pid", ttl=ttl, action=call).status == 200


def told(receiver: Receiver, id: str) -> Seen:
    """Return the span of the only attempt at this call that has one."""
    wait_until(lambda: spans(receiver, id), f"a span of {id}")
    (span,) = spans(receiver, id)
    return span


def spans(receiver: Receiver, id: str) -> list[Seen]:
    return [span for span in receiver.seen if span.attributes["resonate.promise.id"] == id]


def halt(client: Client, receiver: Receiver, id: str, **param: Any) -> Seen:
    claim(client, id, **param)
    client.call("task.halt", id=id)
    return told(receiver, id)


def test_a_lost_lease_is_the_end_of_an_attempt(server: ServerProcess, receiver: Receiver, id: str) -> None:
    claim(server.client(), id, ttl=1_000, **SIGNED)
    span = told(receiver, id)
    assert (span.service, span.name, span.kind) == ("resonate-server", "bar", "CONSUMER")
    assert (span.trace, span.parent) == (TRACE, CALLER)
    assert span.attributes == {
        "resonate.promise.id": id,
        "resonate.function": "bar",
        "resonate.attempt": 1,
        "resonate.outcome": "lease lost",
    }
    assert span.failed and "pid" in span.message
    assert span.end - span.begin >= 1_000_000_000


def test_an_attempt_is_linked_to_the_one_before(server: ServerProcess, receiver: Receiver, id: str) -> None:
    client = server.client()
    first = halt(client, receiver, id, **SIGNED)
    client.call("task.continue", id=id)
    acquire(client, id, 1, "pid")
    client.call("task.halt", id=id)
    second = receiver.wait("bar", promise_id=id, attempt=2)
    assert second.links == ((TRACE, first.id),)


@pytest.mark.parametrize(
    ("kind", "data", "outcome"),
    [("promise.settle", {"state": "rejected_canceled"}, "settled by others"), ("task.halt", {}, "halted")],
)
def test_settling_a_call_or_halting_its_task_ends_the_attempt(
    server: ServerProcess, receiver: Receiver, id: str, kind: str, data: dict[str, str], outcome: str
) -> None:
    claim(server.client(), id, **SIGNED)
    server.client().call(kind, id=id, **data)
    assert told(receiver, id).attributes["resonate.outcome"] == outcome


def test_calls_of_a_chain_that_nobody_traces_share_a_trace(server: ServerProcess, receiver: Receiver, id: str) -> None:
    span = halt(server.client(), receiver, id)
    assert (span.name, span.parent) == ("attempt", "")
    assert span.trace != TRACE


@pytest.mark.parametrize("end", ["fulfill", "release", "suspend"])
def test_an_attempt_that_its_worker_ends_is_left_to_the_worker_to_report(
    server: ServerProcess, receiver: Receiver, id: str, end: str
) -> None:
    client = server.client()
    claim(client, id, **SIGNED)
    client.create(f"{id}-awaited")
    data: dict[str, dict[str, Any]] = {
        "fulfill": {"action": action("promise.settle", id=id, state="resolved")},
        "release": {},
        "suspend": {"actions": [awaiting(f"{id}-awaited", id)]},
    }
    assert client.call(f"task.{end}", id=id, version=1, **data[end]).status == 200
    halt(client, receiver, f"{id}-next")
    assert spans(receiver, id) == []


def test_an_attempt_from_before_a_restart_begins_with_the_restart(start: Start, receiver: Receiver, id: str) -> None:
    server = start("state.db", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    claim(server.client(), id, **SIGNED)
    server.kill()
    killed_at = time.time_ns()
    server.start()
    server.client().call("task.halt", id=id)
    span = told(receiver, id)
    assert (span.trace, span.parent) == (TRACE, CALLER)
    assert killed_at < span.begin <= span.end


def test_an_absent_receiver_blocks_nothing(start: Start, id: str) -> None:
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    claim(server.client(), id, **SIGNED)
    assert server.client().call("task.halt", id=id).status == 200
    assert server.stop() == 0


async def test_a_server_that_cannot_export_spans_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load({"storage.sqlite.path": IN_MEMORY}, {})
    monkeypatch.setattr(build, "EXPORTER", "a-package-that-nobody-has")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SystemExit, match="the extra `otel`"):
        build.build(settings)


async def test_a_collector_must_be_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")
    with pytest.raises(SystemExit, match="OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"):
        build.build(load({"storage.sqlite.path": IN_MEMORY}, {}))


def test_an_answer_without_an_end_is_not_read(start: Start, id: str) -> None:
    with endless_answers() as (url, stopped):
        server = start(OTEL_EXPORTER_OTLP_ENDPOINT=url)
        claim(server.client(), id, ttl=1)
        wait_until(stopped.is_set, "the server closes the connection")


def test_a_collector_that_redirects_is_reported(start: Start, receiver: Receiver, id: str) -> None:
    """OpenTelemetry neither follows a redirect nor takes it for a failure: all spans would be lost without a word."""
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT=f"{receiver.url}/moved")
    claim(server.client(), id, ttl=1)
    wait_until(lambda: "redirects to /login" in server.output(), "the log says it")
