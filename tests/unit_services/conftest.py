"""Stacks for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.process import Process

from .programs import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack in which nothing is running yet."""
    fresh = Stack(tmp_path)
    yield fresh
    fresh.close()


@pytest.fixture
def served(stack: Stack) -> Stack:
    """A stack in which only a server is running."""
    stack.start_server()
    return stack


@pytest.fixture
def foo(served: Stack) -> Process:
    """foo, with nothing but a server."""
    return served.start_foo()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which everything runs, shared by the tests of a module."""
    shared = Stack(tmp_path_factory.mktemp("stack"))
    shared.start_server()
    shared.start_services()
    yield shared
    shared.close()
