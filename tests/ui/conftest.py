"""One browser and one stack for this folder; each test gets its own tab, and fails if anything goes wrong in it."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.network import isolated_network
from harness.server import ServerProcess
from playwright.sync_api import Browser

from ui.browser import Tab, chromium, running, tab_of
from ui.demo import Demo

type OpenTab = Callable[..., Tab]
type Start = Callable[..., ServerProcess]

_numbers = itertools.count(1)


@pytest.fixture(scope="package", autouse=True)
def network() -> Iterator[None]:
    """Chromium aborts loading when a network interface appears or disappears, as Docker's networks do."""
    with isolated_network():
        yield


# Package scope, because no other test can run an event loop while Playwright runs.
@pytest.fixture(scope="package")
def browser(network: None) -> Iterator[Browser]:  # noqa: ARG001
    program = chromium()
    if program is None:
        _lack()
    assert program
    with running(program) as browser:
        yield browser


def _lack() -> None:
    lack = "there is no Chromium here; scripts/browser.sh installs it on Debian"
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1, but {lack}")
    pytest.skip(f"the page in a browser: {lack}")


@pytest.fixture(scope="module")
def start(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:  # noqa: ARG001
    """Start servers of their own, by default in memory, for all tests of a module."""
    folder, servers = tmp_path_factory.mktemp("servers"), list[ServerProcess]()

    def start_one(path: str = "", **env: str) -> ServerProcess:
        servers.append(ServerProcess(folder / f"{len(servers)}.log", folder / path if path else None, None, **env))
        return servers[-1].start()

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture(scope="package")
def running_demo(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:  # noqa: ARG001
    with Demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def demo(running_demo: Demo) -> Iterator[Demo]:
    """The demo; everything that the test has killed is brought back afterwards."""
    yield running_demo
    running_demo.restore()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[OpenTab]:
    """Open tabs; check at the end that nothing went wrong in any of them."""
    tabs: list[Tab] = []

    def open_one(home: str, **context: Any) -> Tab:
        tabs.append(tab_of(browser, home, **context))
        return tabs[-1]

    yield open_one
    troubles = [tab.troubles for tab in tabs]
    for tab in tabs:
        tab.page.context.close()
    assert troubles == [[] for _ in tabs]


@pytest.fixture
def tab(demo: Demo, open_tab: OpenTab) -> Tab:
    return open_tab(demo.page)


@pytest.fixture
def id() -> str:
    """An id for a chain that no other test has used."""
    return f"order-{next(_numbers)}"
