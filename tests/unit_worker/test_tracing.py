"""Spans from the messages between the SDK and a server: attempts, and their callers."""

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from harness.otlp import Receiver, endless_answers, running_receiver
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from resonate.send import TaskRef

from resonate_server.watch import lost_attempts
from worker.tracing import Ids, Tracing, make_provider, span_id, trace_id

from .exchange import Exchange

TRACE, CALLER = 0xA << 124, 0xB << 60
TRACEPARENT = f"00-{format_trace_id(TRACE)}-{format_span_id(CALLER)}-01"


class Traced(Exchange):
    """A worker's requests, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(id_generator=Ids())
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)
        super().__init__(tracing=self.tracing)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    async def attempt(self, id: str = "a", traceparent: str = TRACEPARENT, **tags: str) -> TaskRef:
        """Claim a task."""
        self.tags = {f"resonate:{name}": text for name, text in tags.items()}
        self.param = {"headers": {"traceparent": traceparent}} if traceparent else {}
        await self.claim(id)
        return TaskRef(id=id, version=1)

    async def fulfill(self, task: TaskRef, state: str = "resolved", status: int = 200) -> None:
        await self.end("task.fulfill", status, task.id, task.version, action={"data": {"state": state}})

    def created(self) -> dict[str, Any]:
        """The parameter of the promise created last."""
        data = self.requests[-1]["data"]
        param: dict[str, Any] = (data["action"]["data"] if "action" in data else data)["param"]
        return param


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    """Check that no test begins within a span or leaves one open."""
    assert not trace.get_current_span().get_span_context().is_valid
    yield
    assert not trace.get_current_span().get_span_context().is_valid


def ids(span: ReadableSpan) -> tuple[int, int, int | None]:
    """The ids of the trace, the span and its parent."""
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id, span.parent.span_id if span.parent else None


# ── ids ──


def test_each_attempt_has_an_id_of_its_own() -> None:
    assert len({span_id("a", 1), span_id("a", 2), span_id("b", 1), span_id("a/1", 1)}) == 4


@pytest.mark.parametrize("id", ["a", "chain:1.2", "Grüße/1"])
def test_the_server_derives_the_same_ids(id: str) -> None:
    assert lost_attempts.span_id(id, 7) == span_id(id, 7)
    assert lost_attempts.trace_id(id) == trace_id(id)


async def test_an_attempt_is_a_child_of_the_span_that_its_promise_names(traced: Traced) -> None:
    await traced.fulfill(await traced.attempt("a"))
    assert [ids(span) for span in traced.spans] == [(TRACE, span_id("a", 1), CALLER)]


@pytest.mark.parametrize("traceparent", ["", "none of ours"])
async def test_calls_of_a_chain_that_nobody_traces_share_a_trace(traced: Traced, traceparent: str) -> None:
    for id in ("a", "a:1"):
        await traced.fulfill(await traced.attempt(id, traceparent=traceparent, origin="a"))
    assert [ids(span) for span in traced.spans] == [(trace_id("a"), span_id(id, 1), None) for id in ("a", "a:1")]


# ── ends ──


async def release(traced: Traced, reason: str) -> None:
    traced.runs.failed(TaskRef(id="a", version=1), reason)
    await traced.end("task.release")


async def suspend(traced: Traced, status: int) -> None:
    await traced.end("task.suspend", status, actions=[{"data": {"awaited": id}} for id in ("a:1", "a:2")])


type End = Callable[[Traced, TaskRef], Awaitable[None]]
ENDS: dict[str, tuple[list[End], list[tuple[str, str | None]]]] = {
    # What ends the attempt; its outcome, and why it has failed, if it has.
    "fulfilled": ([lambda traced, task: traced.fulfill(task)], [("resolved", None)]),
    "failed": ([lambda traced, task: traced.fulfill(task, "rejected")], [("rejected", "")]),
    "suspended": ([lambda traced, _: suspend(traced, 200)], [("suspended", None)]),
    "going on": ([lambda traced, _: suspend(traced, 300)], []),
    "released": ([lambda traced, _: release(traced, "no such function")], [("given back", "no such function")]),
    "refused, released": (
        [lambda traced, task: traced.fulfill(task, status=413), lambda traced, _: release(traced, "too large")],
        [("given back", "too large")],
    ),
    # The server records these.
    "lease gone": ([lambda traced, task: traced.fulfill(task, status=404)], []),
    "lease lost": (
        [lambda traced, task: traced.fulfill(task, status=409), lambda traced, task: traced.fulfill(task)],
        [],
    ),
}


@pytest.mark.parametrize(("ends", "outcomes"), ENDS.values(), ids=ENDS)
async def test_the_outcome_of_an_attempt(
    traced: Traced, ends: list[End], outcomes: list[tuple[str, str | None]]
) -> None:
    task = await traced.attempt("a")
    for end in ends:
        await end(traced, task)
    seen = [
        (attributes["resonate.outcome"], None if span.status.is_ok else span.status.description or "")
        for span in traced.spans
        if (attributes := span.attributes)
    ]
    assert seen == outcomes


async def test_a_task_that_the_sdk_drops_is_no_attempt(traced: Traced) -> None:
    await traced.fulfill(await traced.attempt("a", timer="true"))
    assert not traced.spans


# ── runs ──


async def test_an_attempt_is_named_after_its_function(traced: Traced) -> None:
    task = await traced.attempt("a")
    with traced.tracing.surround("bar", "a", task):
        pass
    await traced.fulfill(task)
    assert traced.spans[0].name == "bar"
    assert traced.spans[0].attributes == {
        "resonate.promise.id": "a",
        "resonate.attempt": 1,
        "resonate.function": "bar",
        "resonate.outcome": "resolved",
    }


async def test_a_function_that_finally_succeeds_has_not_failed(traced: Traced) -> None:
    task = await traced.attempt("a")
    with pytest.raises(ValueError, match="at first"), traced.tracing.surround("bar", "a", task):
        raise ValueError("at first")
    with traced.tracing.surround("bar", "a", task):
        pass
    await traced.fulfill(task)
    assert [event.name for event in traced.spans[0].events] == ["exception"]
    assert traced.spans[0].status.is_ok


async def test_each_try_of_a_step_is_a_span_within_the_attempt(traced: Traced) -> None:
    task = await traced.attempt("a")
    with traced.tracing.surround("bar", "a", task):
        with pytest.raises(ValueError, match="at first"), traced.tracing.surround("work", "a:1", task):
            raise ValueError("at first")
        with traced.tracing.surround("work", "a:1", task):
            pass
    assert [(span.name, ids(span)[2], span.status.is_ok) for span in traced.spans] == [
        ("work", span_id("a", 1), False),
        ("work", span_id("a", 1), True),
    ]


# ── calls ──

CREATION: dict[str, Any] = {"id": "a:1", "param": {"data": "e30="}, "tags": {}}
REQUESTS: dict[str, dict[str, Any]] = {
    "promise.create": CREATION,
    "task.create": {"pid": "p", "ttl": 1, "action": {"kind": "promise.create", "data": CREATION}},
    "task.fence": {"id": "a", "version": 1, "action": {"kind": "promise.create", "data": CREATION}},
}


@pytest.mark.parametrize("kind", REQUESTS)
async def test_calls_of_a_function_name_its_attempt(traced: Traced, kind: str) -> None:
    task = await traced.attempt("a")
    with traced.tracing.surround("bar", "a", task):
        await traced.ask(kind, **REQUESTS[kind])
    headers = {"traceparent": f"00-{format_trace_id(TRACE)}-{format_span_id(span_id('a', 1))}-01"}
    assert traced.created() == {"data": "e30=", "headers": headers}


async def test_a_span_created_by_the_function_is_the_parent_of_calls_within_it(traced: Traced) -> None:
    task = await traced.attempt("a")
    with traced.tracing.surround("bar", "a", task), traced.tracing.tracer.start_as_current_span("own"):
        await traced.ask("task.fence", **REQUESTS["task.fence"])
    (own,) = traced.spans
    assert traced.created()["headers"]["traceparent"].split("-")[2] == format_span_id(ids(own)[1])
    assert ids(own)[2] == span_id("a", 1)


async def test_an_existing_trace_context_is_kept(traced: Traced) -> None:
    task = await traced.attempt("a")
    param = {"data": "e30=", "headers": {"traceparent": TRACEPARENT, "other": "kept"}}
    with traced.tracing.surround("bar", "a", task):
        await traced.ask("promise.create", **(CREATION | {"param": param}))
    assert traced.created() == param


async def test_a_caller_that_joins_a_call_is_linked_to_the_one_that_started_it(traced: Traced) -> None:
    with traced.tracing.tracer.start_as_current_span("repetition"):
        traced.tracing.join({"traceparent": TRACEPARENT})
        traced.tracing.join({})
        traced.tracing.join(None)
    (link,) = traced.spans[0].links
    assert (link.context.trace_id, link.context.span_id) == (TRACE, CALLER)


# ── the way to the collector ──


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> Iterator[Callable[..., TracerProvider]]:
    """Return what a function that creates its own spans finds, given these variables."""
    made: list[TracerProvider] = []
    monkeypatch.setattr(trace, "set_tracer_provider", made.append)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)

    def provide(**variables: str) -> TracerProvider:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        provider = make_provider("group", "pid")
        assert made[-1] is provider
        return provider

    yield provide
    for provider in made:
        provider.shutdown()


@pytest.mark.parametrize(
    ("variables", "service"),
    [
        ({}, "group"),
        ({"OTEL_SERVICE_NAME": "named"}, "named"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=described"}, "described"),
    ],
)
def test_spans_are_exported_under_the_name_of_the_group_or_a_given_one(
    provided: Callable[..., TracerProvider], receiver: Receiver, variables: dict[str, str], service: str
) -> None:
    provider = provided(**variables)
    provider.get_tracer("test").start_span(f"of {service}").end()
    assert receiver.wait(f"of {service}").service == service


# ── the end ──


class Collector(InMemorySpanExporter):
    """Accepts nothing until it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.lets = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.lets.wait()
        return super().export(spans)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.lets.set()


def test_at_the_end_finished_spans_are_exported_within_the_time_limit(collector: Collector) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(collector, schedule_delay_millis=3_600_000))
    tracing = Tracing(provider)
    tracing.tracer.start_span("last").end()
    tracing.flush(0.01)
    assert not collector.get_finished_spans()
    collector.lets.set()
    tracing.flush(60)
    assert [span.name for span in collector.get_finished_spans()] == ["last"]


def test_an_answer_without_an_end_is_not_read(provided: Callable[..., TracerProvider]) -> None:
    with endless_answers() as (url, stopped):
        provided(OTEL_EXPORTER_OTLP_ENDPOINT=url).get_tracer("test").start_span("any").end()
        assert stopped.wait(10)
