"""A pytest plugin: a test that hangs, because what it states no longer holds, fails and says where it waits."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

LIMIT_SECONDS = 1_800
"""Far more than any test needs on the slowest machine, for its fixtures or for itself."""
AGAIN_SECONDS = 5
"""An event loop may only log an exception; then it gets another one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hanging", type=float, default=LIMIT_SECONDS, help="seconds after which a test has failed")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    with _limited(item.config.getoption("hanging")):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    with _limited(item.config.getoption("hanging")):
        return (yield)


@contextmanager
def _limited(seconds: float) -> Generator[None]:
    def fail(*_: object) -> None:
        pytest.fail(f"it hangs: no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
