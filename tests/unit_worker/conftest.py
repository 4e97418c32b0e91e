"""Workers and a server that the tests of a file share, and what the log says."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from harness.sdk import adaptable_sdk
from harness.server import ServerProcess

from .group import Group, Told


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("server") / "log").start()
    yield server
    server.stop()


@pytest.fixture
def sdk() -> Iterator[None]:
    with adaptable_sdk():
        yield


@pytest.fixture
async def group(server: ServerProcess, sdk: None, tmp_path: Path) -> AsyncIterator[Group]:  # noqa: ARG001
    group = Group(server, tmp_path / "health")
    yield group
    await group.close()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Return whether a line of the log contains a text."""
    caplog.set_level(logging.INFO)
    return lambda text: any(text in message for message in caplog.messages)
