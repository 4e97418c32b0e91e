"""Fixtures: servers, by default one in memory per test module; clients, streams, ids, and a disk that fills up soon."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import Result
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.calls import resonate
from integration.servers import Start, starting

SMALL_DISK_BYTES = 8 * 2**20


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that are stopped after the test; files are in ``tmp_path``."""
    with starting(tmp_path) as start_one:
        yield start_one


@pytest.fixture(scope="module")
def start_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start servers for all tests of a module."""
    with starting(tmp_path_factory.mktemp("servers")) as start_one:
        yield start_one


@pytest.fixture(scope="module")
def server(start_for_all: Start) -> ServerProcess:
    return start_for_all()


@pytest.fixture
def client(server: ServerProcess) -> Client:
    return server.client()


@pytest.fixture
def run(server: ServerProcess) -> Callable[..., Result]:
    """Run a command of ``resonate`` on the module's server."""
    return partial(resonate, server.url)


@pytest.fixture
def id() -> str:
    """An id that no other test uses."""
    return f"id-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Start a server that ends with status 2, and return the one line in which it says why."""

    def refuse(port: int | None = None, path: Path | None = None, *flags: str) -> str:
        (log := tmp_path / "refused.log").unlink(missing_ok=True)
        server = ServerProcess(log, path, port)
        server.command += flags
        server.launch()
        assert server.wait() == 2
        assert server.output().count("\n") == 1
        return server.output()

    return refuse


@pytest.fixture
def open_stream() -> Iterator[Callable[[ServerProcess, str, str], Stream]]:
    """Open streams for a group and a process; they are closed after the test."""
    opened: list[Stream] = []

    def open_one(server: ServerProcess, group: str, id: str) -> Stream:
        opened.append(Stream(server.port, group, id))
        return opened[-1]

    yield open_one
    for stream in opened:
        stream.close()


@pytest.fixture
def connect(
    server: ServerProcess, open_stream: Callable[[ServerProcess, str, str], Stream]
) -> Callable[[str, str], Stream]:
    """Open streams to the module's server."""
    return partial(open_stream, server)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own that fills up soon."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
