"""A machine's clock is set wrong by an hour while a call sleeps: the sleep still takes as long as it should.

The clock really is wrong for the process that reads it: libfaketime (Debian's package of that name) intercepts its
calls, and a file sets the error of the time of day. Uptime is unaffected.
"""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.basics import wait_until

from .programs import Stack

PAUSE_SECONDS = 3.0
TOO_SHORT_SECONDS = 0.5
TOO_LONG_SECONDS = 120.0
"""Trusting a wrong clock makes the sleep an hour longer, or ends it at once; a busy machine adds some seconds."""
LIMIT_SECONDS = 2 * TOO_LONG_SECONDS
HOUR = 3600

LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)

pytestmark = [
    pytest.mark.skipif(LIBRARY is None, reason="there is no libfaketime (Debian: apt-get install libfaketime)"),
    pytest.mark.long,
]


class WallClock:
    """The clock of all processes started with its environment."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """Set the time of day wrong by that much from now on."""
        coming = self._file.with_suffix(".new")
        coming.write_text(f"{seconds:+d}\n")
        coming.rename(self._file)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


type Clocks = dict[str, WallClock]
"""By the program that reads it."""


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Clocks:
    folder = tmp_path_factory.mktemp("clocks")
    return {name: WallClock(folder / name) for name in ("server", "bar")}


@pytest.fixture(scope="module")
def running_chain(tmp_path_factory: pytest.TempPathFactory, clocks: Clocks) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    stack.start_server(**clocks["server"].environment)
    stack.connect_worker("bar", **clocks["bar"].environment)
    stack.connect_worker("baz")
    stack.start_foo()
    yield stack
    stack.close()


@pytest.fixture
def chain(running_chain: Stack, clocks: Clocks) -> Iterator[Stack]:
    """A chain whose clocks are right until the test changes them."""
    yield running_chain
    for clock in clocks.values():
        clock.jump(0)


class Sleep:
    """bar's sleep in a chain with that id."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._id = id = secrets.token_hex(4)
        self._not_before = time.monotonic()
        assert stack.post({"pause": PAUSE_SECONDS}, key=id, prefer="respond-async").status == 202
        wait_until(lambda: sleep_of(stack, id), "bar sleeps")
        self._not_after = time.monotonic()

    def takes_as_long_as_it_should(self) -> bool:
        wait_until(lambda: sleep_of(self._stack, self._id) == "resolved", "the sleep is over", LIMIT_SECONDS)
        end = time.monotonic()
        at_most, at_least = end - self._not_before, end - self._not_after
        print(f"the sleep of {PAUSE_SECONDS} s took between {at_least:.2f} and {at_most:.2f} s")
        return at_most > PAUSE_SECONDS - TOO_SHORT_SECONDS and at_least < PAUSE_SECONDS + TOO_LONG_SECONDS


def sleep_of(stack: Stack, id: str) -> str:
    """Return the state of the promise for bar's sleep; empty before it exists and while the server is too busy."""
    found = stack.client().call("promise.search", tags={"resonate:origin": id, "resonate:timer": "true"})
    assert found.status in (200, 503), found
    return "".join(promise["state"] for promise in found.data["promises"]) if found.status == 200 else ""


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "back"])
@pytest.mark.parametrize("when", ["before the sleep", "during the sleep", "while the server and bar are started again"])
def test_the_clocks_jump(chain: Stack, clocks: Clocks, when: str, jump: int) -> None:
    """The server's by an hour, and bar's by as much in the other direction: both would end the sleep wrongly."""
    restarts = when.startswith("while")
    sleep = None if when.startswith("before") else Sleep(chain)
    if restarts:
        chain.server.kill()
        chain.program("bar").kill()
    clocks["server"].jump(jump)
    clocks["bar"].jump(-jump)
    if restarts:
        chain.start_server(**clocks["server"].environment)
        chain.connect_worker("bar", **clocks["bar"].environment)
    assert (sleep or Sleep(chain)).takes_as_long_as_it_should()


def test_the_clock_of_these_tests_is_really_wrong(clocks: Clocks) -> None:
    """Otherwise these tests would prove nothing."""
    clocks["server"].jump(HOUR)
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time(), time.monotonic())"],
        env=os.environ | clocks["server"].environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert float(told[0]) - time.time() == pytest.approx(HOUR, abs=30)
    assert float(told[1]) == pytest.approx(time.monotonic(), abs=30)
