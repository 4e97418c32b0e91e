"""Ports, waiting and readiness: what every test that starts a process needs."""

import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = range(10_000 + _WORKER % 10 * 2_000, 12_000 + _WORKER % 10 * 2_000)
_given: set[int] = set()


def free_port() -> int:
    """A port nobody listens on now, and that nobody else here is given.

    Of those that pytest-xdist's workers share out among themselves, so that a server which is away for a while finds
    its port free; outside the range from which systems serve outgoing connections, so that no client which reconnects
    meanwhile has it.
    """
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given or len(_given) > len(_PORTS) / 2:
                _given.add(port)
                return port


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60, every: float = 0.05) -> None:
    """Return as soon as ``condition()`` is true; fail with ``what`` if it is not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)


def answers_200(port: int, path: str) -> bool:
    """Whether ``GET path`` on this machine's ``port`` is answered so, now."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def hold_interpreter(seconds: float) -> None:
    """In C code, so that no other thread of the process runs, for about that long, however fast the machine is."""
    some = 2_000_000
    began = time.perf_counter()
    sum(range(some))
    took = time.perf_counter() - began
    sum(range(int(some * seconds / took)))
