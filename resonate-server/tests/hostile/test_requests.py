"""A flood of hostile requests causes no 5xx, no lost connection, no memory growth and no flood of log lines.

REQUESTS sets the number of requests (default 15,000). A million takes some minutes:
``REQUESTS=1000000 scripts/test.sh resonate-server/tests/hostile``.
SEED repeats a run.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest
from harness.server import ServerProcess

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


async def test_every_request_is_answered_below_500_and_nothing_grows(server: ServerProcess) -> None:
    print(f"SEED={SEED} REQUESTS={REQUESTS}")
    bodies = requests(SEED)
    statuses = await flood(server, islice(bodies, REQUESTS // 3))
    before = psutil.Process(server.pid).memory_info().rss
    statuses += await flood(server, islice(bodies, REQUESTS - REQUESTS // 3))
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


async def flood(server: ServerProcess, bodies: Iterator[bytes]) -> Counter[int]:
    """Send all ``bodies`` over a few connections that last for the whole flood. Return how often each status came."""
    counts: Counter[int] = Counter()

    async def pour() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for body in bodies:
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            counts[await read_status(reader)] += 1
        writer.close()

    await asyncio.gather(*(pour() for _ in range(CONNECTIONS)))
    return counts


async def read_status(reader: asyncio.StreamReader) -> int:
    """Read one whole answer and return its status."""
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0].split(b":")[1]))
    return int(head.split()[1])
