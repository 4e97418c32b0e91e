"""The span of a request to foo."""

import asyncio
from collections.abc import Iterator

import pytest
from flask import g, request
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from werkzeug.exceptions import Forbidden

from foo_web.flask_async import AsyncFlask
from foo_web.tracing import trace_requests

from .asking import Client, Foo


class Traced:
    """An application, and the spans of its requests."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        app = AsyncFlask(__name__)
        trace_requests(app, provider.get_tracer("test"))
        self.foo = Foo(app)
        self.inner = 0
        """The span that is current while a request is answered."""

        @app.before_request
        def refuse() -> None:
            if "refused" in request.args:
                raise Forbidden

        @app.post("/foo")
        async def post() -> str:
            g.chain_id = "chain"
            await asyncio.sleep(0)
            self.inner = trace.get_current_span().get_span_context().span_id
            if "fails" in request.args:
                raise RuntimeError
            if "waits" in request.args:
                await asyncio.Event().wait()
            return "3"

        @app.get("/foo/<id>")
        def get(id: str) -> str:
            return id

    @property
    def span(self) -> ReadableSpan:
        """The only finished span."""
        (span,) = self._exporter.get_finished_spans()
        return span

    @property
    def is_untold(self) -> bool:
        return not self._exporter.get_finished_spans()


@pytest.fixture
def traced() -> Iterator[Traced]:
    yield Traced()
    assert not trace.get_current_span().get_span_context().is_valid


async def test_a_request_is_a_span_in_which_it_is_answered(traced: Traced) -> None:
    await traced.foo.post()
    assert traced.span.name == "POST /foo"
    assert traced.span.kind is trace.SpanKind.SERVER
    assert traced.span.attributes == {
        "http.request.method": "POST",
        "http.route": "/foo",
        "url.path": "/foo",
        "http.response.status_code": 200,
        "resonate.promise.id": "chain",
    }
    assert traced.span.context is not None
    assert traced.inner == traced.span.context.span_id
    assert traced.span.parent is None


async def test_the_span_belongs_to_the_trace_of_the_sender(traced: Traced) -> None:
    await traced.foo.post(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert traced.span.parent is not None
    assert (traced.span.parent.trace_id, traced.span.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))


@pytest.mark.parametrize("header", ["", "00-0-0-01", f"00-{'0' * 32}-{'b' * 16}-01", "none of ours"])
async def test_an_invalid_trace_context_is_ignored(traced: Traced, header: str) -> None:
    await traced.foo.post(traceparent=header)
    assert traced.span.parent is None


async def test_a_refused_request_is_recorded_too(traced: Traced) -> None:
    await traced.foo.request("POST", "/foo?refused")
    assert (traced.span.attributes or {})["http.response.status_code"] == 403
    assert traced.span.status.is_unset


async def test_a_failed_request_is_recorded_as_failed(traced: Traced) -> None:
    await traced.foo.request("POST", "/foo?fails")
    assert (traced.span.attributes or {})["http.response.status_code"] == 500
    assert not traced.span.status.is_ok


async def test_the_span_ends_if_the_client_leaves(traced: Traced) -> None:
    client = Client(b"")
    asking = traced.foo.begin(client, "POST", "/foo?waits")
    async with asyncio.timeout(60):
        while not traced.inner:
            await asyncio.sleep(0.01)
        assert traced.is_untold
        asking.cancel()
        while traced.is_untold:
            await asyncio.sleep(0.01)
    assert "http.response.status_code" not in (traced.span.attributes or {})


async def test_a_path_that_does_not_exist_has_no_route(traced: Traced) -> None:
    await traced.foo.request("POST", "/anything")
    assert traced.span.name == "POST"


async def test_a_get_is_not_recorded(traced: Traced) -> None:
    await traced.foo.get("/foo/chain")
    assert traced.is_untold
