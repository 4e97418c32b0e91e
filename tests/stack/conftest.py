"""One stack of each kind for all tests of this folder; each test gets it whole. And a checkout that was copied."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from harness.basics import TEST_PREFIX

from stack.checkouts import Checkout
from stack.driver import REPOSITORY, Stack, docker_obstacle

PASSED = pytest.StashKey[bool]()

both_kinds = pytest.mark.kinds("processes", "containers")
"""For what a test asks of containers in another way than of processes; where only the words differ, processes do."""
containers_seldom = pytest.mark.kinds("processes", pytest.param("containers", marks=pytest.mark.long))
"""Likewise, where test_stack.py asks much of it of containers each time."""
in_containers = pytest.mark.kinds("containers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "running_stack" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("kinds")
        metafunc.parametrize("running_stack", marker.args if marker else ["processes"], indirect=True)


# Of this folder, not of the session: nothing needs it any more then, and Docker goes on looking whether it is healthy.
@pytest.fixture(scope="package")
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    yield from run_stack(Stack(request.param))


def run_stack(stack: Stack) -> Iterator[Stack]:
    """The stack while it is up; afterwards nothing of it is left."""
    if stack.kind == "containers":
        require_docker()
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="session")
def awkward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In which paths are hard to quote."""
    return tmp_path_factory.mktemp(TEST_PREFIX) / """it's "here" & $HOME"""


@pytest.fixture(scope="session")
def copy(awkward_folder: Path) -> Checkout:
    """This checkout with its environment and its uv, copied there."""
    checkout = Checkout.make(awkward_folder / "copy")
    for name in (".venv", ".local/uv"):
        if (REPOSITORY / name).exists():
            shutil.copytree(REPOSITORY / name, checkout.folder / name, symlinks=True)
    return checkout


def require_docker() -> None:
    obstacle = docker_obstacle()
    if not obstacle:
        return
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, but {obstacle}")
    pytest.skip(f"the stack as containers: {obstacle}")


@pytest.fixture
def stack(running_stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack with all four services up, whatever the tests before have done to it, and however they ended."""
    if running_stack.disturbed:
        _restore(running_stack)
    yield running_stack
    running_stack.end_scripts()
    if not request.node.stash.get(PASSED, False):
        running_stack.disturbed = True


def _restore(stack: Stack) -> None:
    """If that fails, one test errs because of it, and the next ones have a new stack."""
    try:
        stack.restore()
    except Exception:
        stack.begin_anew()
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report
