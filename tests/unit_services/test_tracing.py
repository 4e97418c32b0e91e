"""One request is one trace: what an OpenTelemetry receiver sees of requests and crashes."""

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.basics import wait_until
from harness.otlp import Receiver, Seen, running_receiver

from .programs import Stack

LONG = 3600
"""Seconds for which bar would sleep or work if the test let it."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def variables(receiver: Receiver) -> Iterator[None]:
    """Variables that name the receiver to all programs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        yield


@pytest.fixture
def id() -> str:
    return f"chain-{secrets.token_hex(4)}"


def attempt(receiver: Receiver, name: str, number: int, id: str) -> Seen:
    ids = {"foo": id, "bar": f"{id}:1", "baz": f"{id}:1.1"}
    return receiver.wait(name, promise_id=ids[name], attempt=number)


def suspend(stack: Stack, receiver: Receiver, id: str) -> None:
    """Start a chain; return once foo and bar have released their tasks, which could otherwise continue at once."""
    stack.post({"pause": LONG}, key=id, prefer="respond-async")
    for name in ("foo", "bar"):
        assert attempt(receiver, name, 1, id).attributes["resonate.outcome"] == "suspended"


def test_a_request_is_one_trace_in_which_each_call_is_a_child_of_the_attempt_that_made_it(
    running: Stack, receiver: Receiver, id: str
) -> None:
    assert running.post(key=id).json["message"] == 3
    request = receiver.wait("POST /foo", promise_id=id)
    foo, bar, baz = (attempt(receiver, name, 1, id) for name in ("foo", "bar", "baz"))
    assert {span.trace for span in (foo, bar, baz)} == {request.trace}
    assert [request.parent, foo.parent, bar.parent, baz.parent] == ["", request.id, foo.id, bar.id]
    services = [span.service for span in (request, foo, bar, baz)]
    assert services == ["service-foo", "service-foo", "service-bar", "service-baz"]
    assert [span.kind for span in (request, foo)] == ["SERVER", "CONSUMER"]
    assert request.attributes["http.response.status_code"] == 200
    assert request.begin <= foo.begin <= bar.begin <= baz.begin < baz.end


def test_an_attempt_records_its_outcome_and_what_it_awaits(running: Stack, receiver: Receiver, id: str) -> None:
    suspend(running, receiver, id)
    running.settle(f"{id}:1.2")
    first, second = (attempt(receiver, "foo", number, id) for number in (1, 2))
    assert first.attributes["resonate.awaits"] == [f"{id}:1"]
    assert second.attributes["resonate.outcome"] == "resolved"
    assert second.links == ((first.trace, first.id),)
    assert not second.failed


def test_a_request_belongs_to_the_trace_of_its_sender(running: Stack, receiver: Receiver, id: str) -> None:
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"Idempotency-Key": id, "traceparent": f"00-{trace}-{caller}-01"}
    assert running.request("POST", "/foo", headers=headers).status == 200
    request = receiver.wait("POST /foo", promise_id=id)
    assert (request.trace, request.parent) == (trace, caller)
    assert attempt(receiver, "baz", 1, id).trace == trace


@pytest.mark.parametrize("header", ["", "00-0-0-01", f"00-{'0' * 32}-{'b' * 16}-01", "none of ours"])
def test_an_invalid_trace_context_is_ignored(running: Stack, receiver: Receiver, id: str, header: str) -> None:
    running.request("POST", "/foo", headers={"Idempotency-Key": id, "traceparent": header})
    assert receiver.wait("POST /foo", promise_id=id).parent == ""


def test_a_request_is_recorded_however_it_ends(running: Stack, receiver: Receiver, id: str) -> None:
    with running.send_waiting_request(id, 3600):
        wait_until(lambda: running.get(f"/foo/{id}").status == 200, "it has begun")
    assert receiver.wait("POST /foo", promise_id=id).attributes.get("http.response.status_code") is None
    assert running.post({"pause": 1}, key=id).status == 422
    running.settle(id, b'{"message": "no"}', "rejected")
    assert running.post(key=id).status == 500
    assert running.request("POST", f"/no/{id}").status == 404

    def seen() -> dict[int | None, tuple[str, bool]]:
        own = [span for span in receiver.seen if id in str(span.attributes) and span.kind == "SERVER"]
        return {span.attributes.get("http.response.status_code"): (span.name, span.failed) for span in own}

    wait_until(lambda: 404 in seen(), "the last is recorded")
    posts = {None: ("POST /foo", False), 422: ("POST /foo", False), 500: ("POST /foo", True), 404: ("POST", False)}
    assert seen() == posts
    assert not any(span.name.startswith("GET") for span in receiver.seen)


def test_nothing_is_recorded_for_a_caller_that_is_not_sampled(running: Stack, receiver: Receiver, id: str) -> None:
    headers = {"Idempotency-Key": id, "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"}
    assert running.request("POST", "/foo", headers=headers).status == 200
    assert running.post(key=f"{id}-next").status == 200
    attempt(receiver, "foo", 1, f"{id}-next")
    assert not receiver.find("foo", promise_id=id)


def test_a_repeated_request_is_linked_to_the_trace_of_the_first(running: Stack, receiver: Receiver, id: str) -> None:
    running.post(key=id)
    first = receiver.wait("POST /foo", promise_id=id)
    running.post(key=id)
    wait_until(lambda: len(receiver.find("POST /foo", promise_id=id)) == 2, "both requests are told")
    again = next(span for span in receiver.find("POST /foo", promise_id=id) if span.id != first.id)
    assert again.links == ((first.trace, first.id),)
    assert again.trace != first.trace


# It replaces what it has killed.


def test_the_server_records_a_killed_attempt_and_the_next_one_is_linked_to_it(
    running: Stack, receiver: Receiver, id: str
) -> None:
    running.post({"running": LONG}, key=id, prefer="respond-async")
    running.program("bar").wait_for("running function work")
    baz = attempt(receiver, "baz", 1, id)
    running.program("bar").end(signal.SIGKILL)
    running.settle(f"{id}:1.2")  # the work, done by others
    running.start_worker("bar")
    request, foo = receiver.wait("POST /foo", promise_id=id), attempt(receiver, "foo", 1, id)
    killed, second = (attempt(receiver, "bar", number, id) for number in (1, 2))
    assert {span.trace for span in (baz, foo, killed, second)} == {request.trace}
    assert (killed.parent, second.parent, baz.parent) == (foo.id, foo.id, killed.id)
    assert (killed.service, killed.attributes["resonate.outcome"]) == ("resonate-server", "lease lost")
    assert killed.failed
    assert killed.begin < baz.end < killed.end < second.end
    assert second.links == ((killed.trace, killed.id),)
    assert second.attributes["resonate.outcome"] == "resolved"


def test_opentelemetry_is_not_loaded_by_default(served: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package in its place ends any program that loads it. bar and baz load the same."""
    served.start_worker("baz")
    trap = tmp_path / "trap" / "opentelemetry" / "__init__.py"
    trap.parent.mkdir(parents=True)
    trap.write_text("raise SystemExit('loaded')")
    monkeypatch.setenv("PYTHONPATH", str(trap.parents[1]))
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    served.start_worker("bar")
    served.start_foo()
    assert served.post({"running": 0.1}).json["message"] == 3
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    served.start_worker("bar").wait_for("loaded")
