"""Ports, waiting and readiness checks, for every test that starts a process."""

import ctypes
import fcntl
import hashlib
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_CHECKOUT = hashlib.sha256(os.fsencode(REPOSITORY)).hexdigest()[:8]
TEST_PREFIX = f"durable-rpc-test-{_CHECKOUT}-"
"""Prefix of the names of everything that tests create on this machine. .ci/run uses it to find what an earlier run of
this checkout left behind, and to leave alone what runs in another checkout."""

PATIENCE_SECONDS = 180
"""Time for a program to start or end, even while dozens of others compete for the cores."""
_PORTS = range(10_000, 30_000)
"""Outside the range of ephemeral ports, so that no reconnecting client can occupy one of them."""
_given: set[int] = set()
_locks = os.open(Path(tempfile.gettempdir()) / f"durable-rpc-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600)
"""One byte for each port. The process that was given the port holds a lock on it until it ends."""


def free_port() -> int:
    """Return a port on which nobody listens and that no other test, pytest-xdist process or checkout is given.

    A server that is down for a while therefore finds its port still free.
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


def wait_until[Seen](
    condition: Callable[[], Seen | None], what: str, seconds: float = PATIENCE_SECONDS, every: float = 0.05
) -> Seen:
    """Return ``condition()`` as soon as it is true; fail with ``what`` if that takes longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)
    return seen


def answers_200(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def docker_obstacle() -> str:
    """Return why containers cannot be used here; empty if they can."""
    command = ["bash", "-c", ". scripts/lib.sh; docker_obstacle"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


def hold_gil(seconds: float) -> None:
    """Hold the GIL in C code for that long, so that no other thread of the process runs."""
    ctypes.PyDLL(None).poll(None, 0, int(seconds * 1000))
