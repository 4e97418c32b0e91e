"""One request, one trace: what this worker does, as OpenTelemetry spans. Loaded only if `Settings.tracing` is set.

The context travels in the header `traceparent` (W3C) of a promise's parameter: whoever creates a promise puts its
current span there, and each attempt at the call is a child of that span. Steps are children of their attempt, one span
per try. The id of an attempt's span is derived from promise and attempt, so the next attempt can link to it even if its
worker was killed. If the worker does not end the span, the server does (`watch/lost_attempts.py` there).
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, Final, override

import msgspec
import requests
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AnyValue
from resonate.send import TaskRef
from resonate.types import PromiseRecord

W3C: Final = TraceContextTextMapPropagator()
EXPORT_MS: Final = 200
"""A killed worker loses the spans that ended this recently; OpenTelemetry's own default is 5 s."""
_MAX_ANSWER_BYTES: Final = 4_096

_given: ContextVar[tuple[int, int] | None] = ContextVar("_given", default=None)


class Ids(RandomIdGenerator):
    """Random ids, except for spans of attempts and the traces that these begin."""

    @override
    def generate_trace_id(self) -> int:
        return given[0] if (given := _given.get()) else super().generate_trace_id()

    @override
    def generate_span_id(self) -> int:
        return given[1] if (given := _given.get()) else super().generate_span_id()


def trace_id(origin: str) -> int:
    """Return the trace id for calls that were begun without tracing: one per chain."""
    return int.from_bytes(sha256(origin.encode()).digest()[:16])


def span_id(promise: str, attempt: int) -> int:
    return int.from_bytes(sha256(f"{promise}/{attempt}".encode()).digest()[:8])


def make_provider(group: str, pid: str) -> TracerProvider:
    """Make a provider by OpenTelemetry's variables; unless they name the service, it is named after the group."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # no warnings about retries
    own = Resource.create({"service.name": group, "service.instance.id": pid})
    provider = TracerProvider(
        resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False, id_generator=Ids()
    )
    delay = None if os.environ.get("OTEL_BSP_SCHEDULE_DELAY") else EXPORT_MS
    exporter = OTLPSpanExporter(session=_session())
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=delay))
    trace.set_tracer_provider(provider)  # for spans made by functions and their libraries
    return provider


def _session() -> requests.Session:
    """Read at most a little of each answer: only its status counts, and another server's body may never end."""
    session = requests.Session()
    session.hooks["response"].append(_close)
    return session


def _close(response: requests.Response, **_: object) -> None:
    response.raw.read1(_MAX_ANSWER_BYTES, decode_content=False)  # a whole answer leaves the connection open
    response.close()
    if response.is_redirect:  # not followed, but taken for a success
        raise requests.TooManyRedirects(f"it redirects to {response.headers['Location']}")


class Tracing:
    """Attempts as spans. Whoever passes on the SDK's requests tells it of claims and of what ends them."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self.tracer = provider.get_tracer("worker")
        self._attempts: dict[TaskRef, Span] = {}

    def signed(self, req: str) -> str:
        """Return the request with the current span in the headers of the promise that it creates, if it does.

        Headers that name a span already are kept.
        """
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        request = msgspec.json.decode(req) if carrier else None
        if (creation := _creation(request)) is None:
            return req
        param = creation.setdefault("param", {})
        given = param.get("headers") or {}
        if carrier.keys() & given.keys():  # half of theirs and half of ours would name no span at all
            return req
        param["headers"] = given | carrier
        return msgspec.json.encode(request).decode()

    def begin(self, task: TaskRef, promise: PromiseRecord) -> None:
        """Begin the span of an attempt. It is named after its function as soon as that runs."""
        parent = W3C.extract(promise.param.headers or {}, Context())
        token = _given.set((trace_id(promise.tags.get("resonate:origin", task.id)), span_id(task.id, task.version)))
        try:
            span = self.tracer.start_span("attempt", parent, SpanKind.CONSUMER, _attributes(task.id, task.version))
        finally:
            _given.reset(token)
        if task.version > 1:
            before = span_id(task.id, task.version - 1)
            span.add_link(SpanContext(span.get_span_context().trace_id, before, is_remote=True))
        self._attempts[task] = span

    def end(self, task: TaskRef, outcome: str, awaited: Sequence[str] = (), reason: str = "") -> None:
        """`outcome`: the state of the promise, "suspended" or "given back"; `reason`: why it failed.

        The span of an attempt that lost its lease is left to the server.
        """
        if (attempt := self._attempts.pop(task, None)) is None or outcome == "lease lost":
            return
        if awaited:
            attempt.set_attribute("resonate.awaits", awaited)
        attempt.set_attribute("resonate.outcome", outcome)
        if outcome == "rejected" or reason:
            attempt.set_status(StatusCode.ERROR, reason or None)
        attempt.end()

    @contextmanager
    def surround(self, function: str, id: str, task: TaskRef) -> Iterator[None]:
        """Surround a run of a function for the promise `id`: its calls, and other spans that it makes, belong to it."""
        attributes = _attributes(id, task.version) | {"resonate.function": function}
        if id != task.id:
            with self.tracer.start_as_current_span(function, attributes=attributes):
                yield
        elif (attempt := self._attempts.get(task)) is None:
            yield
        else:
            attempt.update_name(function)
            attempt.set_attributes(attributes)
            with trace.use_span(attempt, set_status_on_exception=False):  # a retry may succeed
                yield

    def join(self, headers: Mapping[str, str] | None) -> None:
        """Link the current span to the one in which a promise was created, by the headers of its parameter."""
        begun_in = trace.get_current_span(W3C.extract(headers or {}, Context()))
        trace.get_current_span().add_link(begun_in.get_span_context())

    def flush(self, seconds: float) -> None:
        sending = threading.Thread(target=self._provider.force_flush, daemon=True)
        sending.start()
        sending.join(seconds)


def _attributes(promise: str, attempt: int) -> dict[str, AnyValue]:
    return {"resonate.promise.id": promise, "resonate.attempt": attempt}


def _creation(request: Any) -> dict[str, Any] | None:
    match request:
        case {"kind": "promise.create", "data": dict(creation)}:
            return creation
        case {"data": {"action": {"kind": "promise.create", "data": dict(creation)}}}:
            return creation
    return None
