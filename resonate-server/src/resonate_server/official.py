"""Maps the official server's settings to those of this one: the only table of its names.

A setting ``a.b_c`` is the key ``b_c`` in the section ``a`` of the file, the variable ``RESONATE_A__B_C`` and the flag
``--a-b-c``. Names that the official server had until 0.9 are the names here; the tables below have all others.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

type Given = dict[str, Any]
"""Values by dotted setting name."""


def _bind(address: Any) -> Given:
    host, _, port = str(address).rpartition(":")
    return {"server.bind": host.strip("[]"), "server.port": port}


def _metrics_bind(address: Any) -> Given:
    return {"observability.metrics_port": str(address).rpartition(":")[2]}


def _metrics_enabled(value: Any) -> Given:
    return {"observability.metrics_port": 0} if _is_off(value) else {}


def _active(server: Any) -> Given:
    return {"storage.type": str(server).removeprefix("server_")}


def _is_off(value: Any) -> bool:
    return str(value).lower() in ("", "false", "0")


NEWER: dict[str, str | Callable[[Any], Given]] = {
    "shutdown_timeout": "server.shutdown_timeout",
    "servers.active": _active,
    "servers.server_postgres.url": "storage.postgres.url",
    "servers.server_postgres.pool_size": "storage.postgres.pool_size",
    "servers.server_sqlite.path": "storage.sqlite.path",
    "servers.server_sqlite.server_url": "server.url",
    "servers.server_sqlite.retry_timeout": "tasks.retry_timeout",
    "gateways.gateway_http.bind": _bind,
    "gateways.gateway_http.cors_allow_origins": "server.cors.allow_origins",
    "gateways.gateway_http.auth.publickey": "auth.publickey",
    "gateways.gateway_http.auth.iss": "auth.iss",
    "gateways.gateway_http.auth.aud": "auth.aud",
    "gateways.gateway_web.enabled": "ui.enabled",
    "gateways.gateway_metrics.bind": _metrics_bind,
    "gateways.gateway_metrics.enabled": _metrics_enabled,  # after the line above, so that it wins
    "workers.transport_http_poll.enabled": "transports.http_poll.enabled",
    "workers.transport_http_poll.max_connections": "transports.http_poll.max_connections",
    "workers.transport_http_poll.buffer_size": "transports.http_poll.buffer_size",
    "workers.transport_http_poll.keepalive_interval_ms": "transports.http_poll.keepalive_interval",
    "workers.transport_http_push.enabled": "transports.http_push.enabled",
    "workers.transport_http_push.concurrency": "transports.http_push.concurrency",
    "workers.transport_http_push.connect_timeout": "transports.http_push.connect_timeout",
    "workers.transport_http_push.request_timeout": "transports.http_push.request_timeout",
    "workers.transport_http_push.auth.mode": "transports.http_push.auth.mode",
    "workers.transport_http_push.auth.token": "transports.http_push.auth.token",
    "workers.transport_http_push.auth.header": "transports.http_push.auth.header",
}
"""Names since 0.10: with our name, or with a function that translates the value."""

FLAGS = {
    "--host": "server.bind",
    "--port": "server.port",
    "--db": "storage.sqlite.path",
    "--server-cors-allow-origin": "server.cors.allow_origins",
    "--console-enabled": "gateways.gateway_web.enabled",
    "--observability-metrics-bind": "gateways.gateway_metrics.bind",
    "--observability-metrics-enabled": "gateways.gateway_metrics.enabled",
}
"""Flags that do not follow from a setting's name. The first three are ours."""

WITHOUT_EFFECT = (
    "tasks.lease_timeout",  # workers bring their own lease times
    "timeouts.poll_interval",  # timers are exact
    "messages.poll_interval",  # messages leave after the commit
    "messages.batch_size",
    "transports.http_poll.buffer_size",  # messages wait in the store
    "transports.http_poll.keepalive_interval",  # always on
)
"""Accepted and ignored: they tune what works differently here."""

NO_OTHER_STORAGE = "this server keeps its state in SQLite or PostgreSQL; other storage is not supported"
_NO_PUBSUB = "this server reaches workers through streams and HTTP; Pub/Sub is not supported"
_NO_SCRIPTS = "this server does not run scripts; a worker in any language can"
_NO_WORKOS = "this server supports a shared secret (auth.token) and JWTs (auth.publickey); WorkOS is not supported"
REFUSED = {
    "storage.mysql": NO_OTHER_STORAGE,
    "servers": NO_OTHER_STORAGE,
    "transports.gcps": _NO_PUBSUB,
    "workers.transport_gcps": _NO_PUBSUB,
    "transports.bash_exec": _NO_SCRIPTS,
    "workers.worker_bash": _NO_SCRIPTS,
    "workos": _NO_WORKOS,
    "gateways.gateway_http.workos": _NO_WORKOS,
    "observability.otlp_endpoint": "set the collector with OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT",
    "transports.http_push.auth.aud": "Google Cloud tokens are not supported; the modes are none and bearer",
    "workers.transport_http_push.auth.aud": "Google Cloud tokens are not supported; the modes are none and bearer",
    "mcp": "this server does not speak MCP; the `resonate` commands do the same",
}
"""Settings that users would miss: why they are refused, by prefix of the name."""

OF_OTHERS = ("url", "host", "scheme", "port", "token", "timeout", "prefix", "username", "password", "image")
"""Variables ``RESONATE_…`` that clients and Compose read, not the server."""

INJECTED = re.compile(r".*(service_host|service_port(_.*)?|port_\d+_(tcp|udp)(_.*)?)")
"""Variables ``RESONATE_…`` that Kubernetes sets for a service called ``resonate…``."""

NAMES = (*NEWER, *WITHOUT_EFFECT)
"""All names understood besides ours."""


def is_of_others(name: str, text: str) -> bool:
    """Return whether the variable ``RESONATE_name`` is not meant for this server."""
    return name in OF_OTHERS or INJECTED.fullmatch(name) is not None or text.startswith("tcp://")


class Refused(Exception):
    """The setting ``name`` asks for something this server does not have; ``reason`` explains that."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def translate(given: Given) -> Given:
    """Translate ``given`` to our names, and drop what has no effect. Raises :class:`Refused`."""
    return dict(translated for name in sorted(given) for translated in _translate(name, given[name]))


def refusal(name: str) -> str | None:
    """Return why a setting or flag of the official server does not exist here."""
    return next((reason for begin, reason in REFUSED.items() if _plain(name).startswith(_plain(begin))), None)


def _plain(name: str) -> str:
    return re.sub("[._]", "-", name.lstrip("-"))


def _translate(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    setting = NEWER.get(name, name)
    if not isinstance(setting, str):
        yield from setting(value).items()
    elif reason := refusal(setting):
        if value != "" and not (setting.endswith("enabled") and _is_off(value)):
            raise Refused(name, reason)
    elif setting not in WITHOUT_EFFECT:
        yield setting, value
