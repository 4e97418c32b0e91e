"""The server as seen from the network: routes, stream framing, limits, status codes. No rules and no SQL."""

from resonate_server.http.app import MAX_LINE_BYTES, Parts, build_app, build_metrics_app, site

__all__ = ["MAX_LINE_BYTES", "Parts", "build_app", "build_metrics_app", "site"]
