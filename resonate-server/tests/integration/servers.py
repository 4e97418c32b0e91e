"""Start servers that are stopped at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.server import ServerProcess

type Start = Callable[..., ServerProcess]
"""Starts a server: see :func:`starting`."""


IMPATIENT = """
from resonate_server.cli import main
from resonate_server.store.postgres import postgres_store
postgres_store.PATIENCE_S = 2.0
main()
"""
"""A server on PostgreSQL that answers after 2 s at the latest."""


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
