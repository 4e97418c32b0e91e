"""The environment variables that configure a worker."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

EXPORTER = "opentelemetry-exporter-otlp-proto-http"
"""The package to look for: others install parts of OpenTelemetry, but not this one."""


class Settings(NamedTuple):
    """The settings of a worker, each with its variable."""

    server_url: str
    """RESONATE_URL"""
    token: str | None
    """RESONATE_TOKEN: a bearer token, if the server asks for one."""
    lease: timedelta
    """LEASE_SECONDS: how long after its last sign of life a dead worker's task is given to another one."""
    max_tasks: int
    """MAX_TASKS: how many tasks run in this process at a time; one that waits for a call or a timer does not count."""
    health_file: Path | None
    """HEALTH_FILE: a file that is fresh while the server can reach this worker."""
    tracing: bool = False
    """OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: where to send spans."""
    offers_faults: bool = False
    """DEMO_FAULTS: 1 for a worker that can be told to die or to freeze (`faults`)."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables; an invalid value ends the program with a clear message."""
        url = environment.get("RESONATE_URL") or "http://localhost:8001"
        if "@" in url:  # with a password, so do not show it
            raise SystemExit("RESONATE_URL must not have a user name or a password; RESONATE_TOKEN is for a token")
        if not _is_url(url):
            raise SystemExit(f"RESONATE_URL must be a URL, such as http://localhost:8001, not {url!r}")
        token = environment.get("RESONATE_TOKEN") or None
        if token and not re.fullmatch("[!-~]+", token):  # a secret, so do not show it
            raise SystemExit("RESONATE_TOKEN is not a token: it has spaces, line ends or letters beyond ASCII")
        lease, tasks = environment.get("LEASE_SECONDS") or "10", environment.get("MAX_TASKS") or "64"
        if not (re.fullmatch(r"[0-9]{1,5}(\.[0-9]*)?", lease) and 1 <= float(lease) <= 86_400):
            raise SystemExit(f"LEASE_SECONDS must be a number of seconds from 1 to 86400, not {lease!r}")
        if not (re.fullmatch("[0-9]{1,4}", tasks) and 1 <= int(tasks) <= 1000):
            raise SystemExit(f"MAX_TASKS must be a whole number from 1 to 1000, not {tasks!r}")
        if (faults := environment.get("DEMO_FAULTS") or "0") not in ("0", "1"):
            raise SystemExit(f"DEMO_FAULTS must be 1 or 0, not {faults!r}")
        return cls(
            server_url=url,
            token=token,
            lease=timedelta(seconds=float(lease)),
            max_tasks=int(tasks),
            health_file=_writable(environment.get("HEALTH_FILE")),
            tracing=_is_traced(environment),
            offers_faults=faults == "1",
        )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:  # the port is not a number
        return False


def _is_traced(environment: Mapping[str, str]) -> bool:
    """Decide by OpenTelemetry's variables; an empty one counts as unset."""
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    given = [name for name in endpoints if environment.get(name)]
    if not given:
        return False
    from importlib.metadata import distributions  # not at the top: slow to import, seldom needed

    if not any(distributions(name=EXPORTER)):
        raise SystemExit(
            f"{given[0]} asks for traces, but OpenTelemetry is not installed; it comes with the extra `otel`"
        )
    if not environment[given[0]].startswith(("http://", "https://")):
        raise SystemExit(f"{given[0]} must be a URL, such as http://localhost:4318, not {environment[given[0]]!r}")
    return True


def _writable(name: str | None) -> Path | None:
    if not name:
        return None
    path = Path(name)
    try:
        path.touch()
        path.unlink()
    except OSError as error:
        raise SystemExit(f"HEALTH_FILE names a file that cannot be written: {error}") from error
    return path
