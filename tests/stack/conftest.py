"""One stack of each kind for all tests of this folder; each test gets it whole."""

import os
from collections.abc import Iterator
from typing import cast

import pytest
from stack.driver import Kind, Stack, docker_obstacle


@pytest.fixture(scope="session", params=["processes", "containers"])
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    kind = cast("Kind", request.param)
    if kind == "containers":
        _require_docker()
    stack = Stack(kind)
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


def _require_docker() -> None:
    obstacle = docker_obstacle()
    if not obstacle:
        return
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, but {obstacle}")
    pytest.skip(f"the stack as containers: {obstacle}")


@pytest.fixture
def stack(running_stack: Stack) -> Iterator[Stack]:
    """The stack with all four services up, whatever the test before has ended."""
    yield running_stack
    if running_stack.disturbed:
        running_stack.restore()
