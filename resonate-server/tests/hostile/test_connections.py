"""As many streams as there may be, and one more. ``integration/test_limits.py`` has slow and half-open connections."""

import asyncio
import resource
import time
from collections.abc import Iterator

import pytest
from harness.server import ServerProcess
from harness.stream import Stream

pytestmark = pytest.mark.long

STREAMS = 1_000
PATIENCE_S = 10.0
"""An innocent request is answered within this time, whatever others do. (It takes a few ms on an idle machine.)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    process = ServerProcess(tmp_path_factory.mktemp("hostile") / "log").start()
    yield process
    process.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def assert_others_are_served(server: ServerProcess) -> None:
    began = time.monotonic()
    assert server.client().call("promise.get", id="nobody").status == 404
    took = time.monotonic() - began
    assert took < PATIENCE_S, f"{took:.2f} s"


async def test_a_thousand_streams_are_served_at_once(server: ServerProcess) -> None:
    """All are served up to the limit; the next one is refused; their places are free again once they break."""
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(STREAMS)]
    for number, (_, writer) in enumerate(opened):
        writer.write(f"GET /poll/crowd/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    async with asyncio.timeout(60):
        assert all([b" 200 " in await reader.readline() for reader, _ in opened])
    await asyncio.to_thread(assert_others_are_served, server)
    assert await asyncio.to_thread(lambda: Stream(server.port, "crowd", "one-more").head.split()[1]) == "503"
    for _, writer in opened:
        writer.transport.abort()

    await asyncio.to_thread(_wait_until_a_stream_is_taken, server)


def _wait_until_a_stream_is_taken(server: ServerProcess) -> None:
    deadline = time.monotonic() + 60
    while Stream(server.port, "crowd", "later").head.split()[1] != "200":
        assert time.monotonic() < deadline
        time.sleep(0.1)
