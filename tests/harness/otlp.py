"""A receiver of spans over OTLP: HTTP with protobuf, as collectors speak it."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, override

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from harness.basics import wait_until
from harness.http import Handler, serving


class Seen(Struct, frozen=True):
    """A received span; ids in hexadecimal, times in ns. ``parent`` is empty for the first span of a trace."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    begin: int
    end: int
    failed: bool
    message: str
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    """Trace id and span id of each."""
    events: tuple[str, ...]


class Receiver:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seen: list[Seen] = []

    def find(self, name: str, **attributes: Any) -> list[Seen]:
        """Return the spans with this name and these attributes (with ``_`` for ``.``, and without ``resonate.``)."""
        wanted = {f"resonate.{key.replace('_', '.')}": value for key, value in attributes.items()}
        return [span for span in self.seen if span.name == name and wanted.items() <= span.attributes.items()]

    def wait(self, name: str, **attributes: Any) -> Seen:
        """Wait for the one span with this name and these attributes, and return it."""
        (span,) = wait_until(lambda: self.find(name, **attributes), f"a span {name} with {attributes}")
        return span


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    with serving(_Handler) as server:
        receiver = Receiver(server.server_port)
        _Handler.take = staticmethod(receiver.seen.extend)
        yield receiver


@contextmanager
def endless_answers() -> Iterator[tuple[str, threading.Event]]:
    """Serve an answer without an end to whoever sends spans; the event tells that a client has stopped reading it."""
    stopped = threading.Event()

    class Endless(Handler):
        @override
        def respond(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(10**15))
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65_536)
            except OSError:
                stopped.set()
                self.close_connection = True

    with serving(Endless) as server:
        yield f"http://127.0.0.1:{server.server_port}", stopped


class _Handler(Handler):
    take: Callable[[Iterator[Seen]], None]

    @override
    def respond(self) -> None:
        if self.path.startswith("/moved/"):  # as a proxy does that asks to log in
            return self.answer(302, Location="/login")
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        body = self.body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.take(_spans(ExportTraceServiceRequest.FromString(body)))
        return self.answer(200, ExportTraceServiceResponse().SerializeToString(), Content_Type="application/x-protobuf")


def _spans(request: ExportTraceServiceRequest) -> Iterator[Seen]:
    for resource in request.resource_spans:
        service = _values(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            yield from (_seen(service, span) for span in scope.spans)


def _seen(service: str, span: Span) -> Seen:
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == Status.STATUS_CODE_ERROR,
        span.status.message,
        _values(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        tuple(event.name for event in span.events),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: AnyValue) -> Any:
    if value.WhichOneof("value") == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, value.WhichOneof("value") or "string_value")
