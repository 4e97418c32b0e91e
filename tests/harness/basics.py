"""Ports, waiting and readiness: what every test that starts a process needs."""

import fcntl
import hashlib
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

_CHECKOUT = hashlib.sha256(os.fsencode(Path(__file__).resolve().parents[2])).hexdigest()[:8]
TEST_PREFIX = f"durable-rpc-test-{_CHECKOUT}-"
"""Of the names of what tests make on this machine. By it .ci/run finds what an earlier run of this checkout has left
behind, and leaves alone what runs in another one."""

PATIENCE_SECONDS = 180
"""Within which a program has begun or ended, also where dozens of others want the cores."""
_PORTS = range(10_000, 30_000)
"""Outside the range from which systems serve outgoing connections: no client which reconnects has one of them."""
_given: set[int] = set()
_locks = os.open(Path(tempfile.gettempdir()) / f"durable-rpc-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)
"""A byte for each port, which is locked by the process that was given the port, until that ends."""


def free_port() -> int:
    """A port nobody listens on now, and that nobody else is given: no other test, process of pytest-xdist, or checkout.

    So a server that is away for a while finds its port free.
    """
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _given.add(port)
            return port


def wait_until(
    condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS, every: float = 0.05
) -> None:
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
