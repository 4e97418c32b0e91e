"""Fixtures: one server in memory for the tests of a module, and a client for it."""

from collections.abc import Callable, Iterator

import pytest
from harness.server import Client, ServerProcess
from harness.stream import Stream


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server") / "log").start()
    yield process
    process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Client:
    return server.client()


@pytest.fixture
def connect(server: ServerProcess) -> Iterator[Callable[[str, str], Stream]]:
    """Open streams that are closed after the test."""
    opened: list[Stream] = []

    def open_stream(group: str, id: str) -> Stream:
        opened.append(Stream(server.port, group, id))
        return opened[-1]

    yield open_stream
    for stream in opened:
        stream.close()
