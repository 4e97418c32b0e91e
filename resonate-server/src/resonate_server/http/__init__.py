"""The server as seen from the network: routes, stream framing, limits, status codes. No rules and no SQL."""

from resonate_server.http.app import KEEP_ALIVE_S, MAX_LINE_BYTES, api_site, build_app, build_metrics_app

__all__ = ["KEEP_ALIVE_S", "MAX_LINE_BYTES", "api_site", "build_app", "build_metrics_app"]
