"""A flood of hostile requests causes no 5xx, no lost connection, no memory growth and no flood of log lines.

REQUESTS sets the number of requests (default 15,000). A million takes some minutes:
``REQUESTS=1000000 scripts/test.sh resonate-server/tests/hostile``.
SEED repeats a run.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import batched, islice
from pathlib import Path

import psutil
import pytest
from harness.server import Client, ServerProcess

from .mutations import requests

pytestmark = pytest.mark.long

REQUESTS = int(os.environ.get("REQUESTS", "15000"))
SEED = int(os.environ.get("SEED", random.randrange(2**32)))
CONNECTIONS = 16
MAX_GROWTH_BYTES = 48 * 1024 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "log", tmp_path / "state.db", RESONATE_STORAGE__SQLITE__SYNCHRONOUS="NORMAL")
    yield process.start()
    process.stop()


def test_every_request_is_answered_below_500_and_nothing_grows(server: ServerProcess) -> None:
    print(f"SEED={SEED} REQUESTS={REQUESTS}")
    bodies = requests(SEED)
    statuses = flood(server, islice(bodies, REQUESTS // 3))
    before = psutil.Process(server.pid).memory_info().rss
    statuses += flood(server, islice(bodies, REQUESTS - REQUESTS // 3))
    growth = psutil.Process(server.pid).memory_info().rss - before
    lines = len(server.log.read_text().splitlines())
    print(f"{dict(sorted(statuses.items()))}, memory {growth / 2**20:+.1f} MiB, {lines} log lines")

    assert sum(statuses.values()) == REQUESTS
    assert not [status for status in statuses if status >= 500 and status != 501], "an unknown kind is no failure"
    assert {200, 400, 404, 409} <= set(statuses)
    assert growth < MAX_GROWTH_BYTES
    assert "Traceback" not in server.log.read_text()
    assert lines < 100 + statuses[200]
    assert server.is_ready()


def flood(server: ServerProcess, bodies: Iterator[bytes]) -> Counter[int]:
    """Send all ``bodies`` over a few connections that last for the whole flood. Return how often each status came."""
    clients = [server.client() for _ in range(CONNECTIONS)]
    counts: Counter[int] = Counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for some in batched(bodies, CONNECTIONS):
            counts.update(reply.status for reply in pool.map(Client.post, clients, some))
    return counts
