"""A span for each POST, in the caller's trace if the request names one (W3C). It contains what the request starts."""

from flask import Flask, Response, g, request
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

W3C = TraceContextTextMapPropagator()


def trace_requests(app: Flask, tracer: Tracer) -> None:
    """Call this before adding other hooks, so that requests which they refuse have spans, too."""

    @app.before_request
    def begin() -> None:
        if request.method != "POST":  # reads, mostly polling
            return
        route = request.url_rule.rule if request.url_rule else ""
        g.span = tracer.start_span(
            f"{request.method} {route}".strip(),
            W3C.extract(request.headers, Context()),
            SpanKind.SERVER,
            {"http.request.method": request.method, "http.route": route, "url.path": request.path},
        )
        g.around = attach(trace.set_span_in_context(g.span))

    @app.after_request
    def answered(response: Response) -> Response:
        if "span" in g:
            g.span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 500:
                g.span.set_status(StatusCode.ERROR)
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        if "span" in g:
            if id := g.get("chain_id"):
                g.span.set_attribute("resonate.promise.id", id)
            g.span.end()
            detach(g.around)
