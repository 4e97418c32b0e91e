"""Hostile connections: slow, half open, never reading, too many. Other clients are served as if they were not there."""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Iterator

import psutil
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


@contextlib.asynccontextmanager
async def connections(
    server: ServerProcess, count: int, first_bytes: bytes
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Open ``count`` connections that send ``first_bytes`` and then nothing more."""
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(count)]
    for _, writer in opened:
        writer.write(first_bytes)
    yield [reader for reader, _ in opened]
    for _, writer in opened:
        writer.transport.abort()


def assert_others_are_served(server: ServerProcess) -> None:
    began = time.monotonic()
    assert server.client().call("promise.get", id="nobody").status == 404
    took = time.monotonic() - began
    assert took < PATIENCE_S, f"{took:.2f} s"


async def test_a_thousand_streams_are_served_at_once(server: ServerProcess) -> None:
    """All are served up to the limit; the next one is refused; their places are free again once they break."""
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for number in range(STREAMS):
            request = f"GET /poll/crowd/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            readers += await stack.enter_async_context(connections(server, 1, request))
        for reader in readers:
            async with asyncio.timeout(60):
                assert b" 200 " in await reader.readline()
        await asyncio.to_thread(assert_others_are_served, server)
        assert await asyncio.to_thread(lambda: Stream(server.port, "crowd", "one-more").head.split()[1]) == "503"

    await asyncio.to_thread(_wait_until_a_stream_is_taken, server)


def _wait_until_a_stream_is_taken(server: ServerProcess) -> None:
    deadline = time.monotonic() + 60
    while Stream(server.port, "crowd", "later").head.split()[1] != "200":
        assert time.monotonic() < deadline
        time.sleep(0.1)


async def test_a_client_that_never_reads_uses_bounded_memory_and_delays_no_one(server: ServerProcess) -> None:
    """Its messages are large: results of promises that it listens for but does not read."""
    async with connections(server, 1, b"GET /poll/deaf/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        await asyncio.sleep(0.2)
        before = psutil.Process(server.pid).memory_info().rss
        await asyncio.to_thread(_settle_for_listener, server, 3_000)
        growth = psutil.Process(server.pid).memory_info().rss - before
        await asyncio.to_thread(assert_others_are_served, server)
    assert growth < 400 * 2**20, f"{growth / 2**20:.0f} MiB"


def _settle_for_listener(server: ServerProcess, count: int) -> None:
    client = server.client()
    for number in range(count):
        id = f"deaf-{number}"
        client.create(id)
        client.call("promise.register_listener", awaited=id, address="poll://uni@deaf/1")
        client.call("promise.settle", id=id, state="resolved", value={"data": "x" * 20_000})
