"""One stack of each kind for all tests of this folder, whole at the start of each test; and a copied checkout."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from harness.basics import REPOSITORY, TEST_PREFIX, docker_obstacle

from stack.checkouts import Checkout
from stack.driver import TOKEN, Stack

PASSED = pytest.StashKey[bool]()

both_kinds = pytest.mark.kinds("processes", "containers")
"""For tests in which containers differ from processes in more than wording; otherwise processes are enough."""
containers_seldom = pytest.mark.kinds("processes", pytest.param("containers", marks=pytest.mark.long))
"""The same, where test_stack.py already covers much of it with containers in every run."""
in_containers = pytest.mark.kinds("containers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "running_stack" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("kinds")
        metafunc.parametrize("running_stack", marker.args if marker else ["processes"], indirect=True)


# Package scope ends it after the last test here; otherwise Docker would go on checking its health.
@pytest.fixture(scope="package")
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    yield from run_stack(Stack(request.param, TOKEN if request.param == "processes" else ""))


def run_stack(stack: Stack) -> Iterator[Stack]:
    if stack.kind == "containers":
        require_docker()
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="session")
def awkward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(TEST_PREFIX) / """it's "here" & $HOME"""


@pytest.fixture(scope="session")
def copy(awkward_folder: Path) -> Checkout:
    """This checkout, with its environment and its uv, copied to the awkward folder."""
    checkout = Checkout.make(awkward_folder / "copy", whole=True)
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
    """The stack with all services up, whatever earlier tests have done to it and however they ended."""
    if running_stack.disturbed:
        _restore(running_stack)
    yield running_stack
    running_stack.end_scripts()
    if not request.node.stash.get(PASSED, False):
        running_stack.disturbed = True


def _restore(stack: Stack) -> None:
    """If this fails, one test fails because of it, and the next ones get a fresh stack."""
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
