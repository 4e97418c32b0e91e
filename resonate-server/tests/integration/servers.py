"""Start servers that are stopped at the end, and read their metrics."""

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.server import ServerProcess
from prometheus_client.parser import text_string_to_metric_families

type Start = Callable[..., ServerProcess]
"""Starts a server: see :func:`starting`."""


@contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """Start servers with these settings in their environment, on a file in ``folder`` or in memory. ``program``: Python
    code to run instead of the usual command."""
    servers: list[ServerProcess] = []

    def start(path: Path | str = "", port: int | None = None, program: str = "", **env: str) -> ServerProcess:
        server = ServerProcess(folder / f"{len(servers)}.log", folder / path if path else None, port, **env)
        servers.append(server)
        if program:
            server.command[1:3] = ["-c", program]
        return server.start()

    yield start
    for server in servers:
        server.stop()


def server_with_a_clock_off_by(hours: int) -> str:
    """Return the program of a server whose time differs from that of its clients."""
    lines = ["import time", "now = time.time_ns", f"time.time_ns = lambda: now() + {hours} * 3_600_000_000_000"]
    return "\n".join([*lines, "from resonate_server.cli import main", "main()"])


def postgres_at(url: str) -> dict[str, str]:
    """Return the settings of a server whose state is in this database."""
    return {"RESONATE_STORAGE__TYPE": "postgres", "RESONATE_STORAGE__POSTGRES__URL": url}


def metrics_text(port: int | str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return str(response.read().decode())


def sample(port: int, name: str, **labels: str) -> float | None:
    """Return the value of a sample, parsed as Prometheus would; ``None`` if there is none."""
    samples = [each for family in text_string_to_metric_families(metrics_text(port)) for each in family.samples]
    return next((each.value for each in samples if each.name == name and each.labels == labels), None)
