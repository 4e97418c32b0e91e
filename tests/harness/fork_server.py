"""A process that has loaded the server, and becomes one more whenever a test asks: a start costs a tenth of the time.

It is a program of its own: what pytest has in memory is none of the server's.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-m", "resonate_server"]
READ_LATE = ("RESONATE_", "OTEL_", "PYTEST_")
"""Variables so named are read when a server has been loaded, or never; all others may count earlier."""

MAX_BYTES = 2**17
"""Of a message between the two processes."""


class Forked:
    """A server, with as much of ``subprocess.Popen`` as tests use."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self.pid = pid

    def poll(self) -> int | None:
        return self._server.status(self.pid, seconds=0)

    def wait(self, timeout: float) -> int:
        status = self._server.status(self.pid, timeout)
        if status is None:
            raise subprocess.TimeoutExpired(PROGRAM, timeout)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """One for each of pytest's processes and networks, from the first server there on. It ends when this end of its
    socket is closed."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs.fileno())
        theirs.close()
        self._statuses: dict[int, int] = {}
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Forked:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        asked = {"arguments": arguments, "env": dict(env), "log": str(log), "folder": str(Path.cwd()), "files": files}
        with self._lock:
            self._socket.settimeout(None)
            self._socket.sendall(json.dumps(asked).encode())
            while (pid := self._hear()) is None:
                pass
        return Forked(self, pid)

    def status(self, pid: int, seconds: float) -> int | None:
        """``None`` if it has not ended within so long; negative: the signal that ended it."""
        end = time.monotonic() + seconds
        while True:
            with self._lock:  # Others get it between two looks.
                left = max(end - time.monotonic(), 0)
                self._socket.settimeout(min(left, 0.05))
                with suppress(BlockingIOError, TimeoutError):
                    while pid not in self._statuses:
                        self._hear()
                if pid in self._statuses or not left:
                    return self._statuses.get(pid)

    def _hear(self) -> int | None:
        """The pid of a server that was started, or ``None``: one has ended."""
        pid, status = json.loads(self._socket.recv(MAX_BYTES))
        if status is None:
            return int(pid)
        self._statuses[pid] = status
        return None


_servers: dict[str, ForkServer] = {}
"""By the network that they are in (:mod:`harness.network`)."""


def start(command: Sequence[str], env: Mapping[str, str], log: Path) -> Forked | None:
    """``None``: this one has to be loaded by itself. So is every server that is measured, outside of pytest."""
    changed = [name for name, _ in env.items() ^ os.environ.items()]
    is_usual = command[:3] == PROGRAM and all(name.startswith(READ_LATE) for name in changed)
    if not is_usual or sys.platform != "linux" or "PYTEST_VERSION" not in os.environ:
        return None
    network = str(Path("/proc/thread-self/ns/net").readlink())
    if network not in _servers:
        _servers[network] = ForkServer()
    return _servers[network].start(command[3:], env, log)


def fork_on_demand(requests: socket.socket) -> dict[str, Any]:
    """Back in each process that is to be a server, with what was asked for."""

    living: set[int] = set()

    def tell_ends(*_: object) -> None:
        while (ended := _waitpid())[0]:
            living.discard(ended[0])
            requests.sendall(json.dumps([ended[0], os.waitstatus_to_exitcode(ended[1])]).encode())

    signal.signal(signal.SIGCHLD, tell_ends)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while asked := requests.recv(MAX_BYTES):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # Its start is told before its end.
        pid = os.fork()
        if not pid:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            return dict(json.loads(asked))
        living.add(pid)
        requests.sendall(json.dumps([pid, None]).encode())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in living:  # those of tests that have failed to end theirs
        os.kill(pid, signal.SIGKILL)
    sys.exit()


def _waitpid() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def become(asked: dict[str, Any]) -> None:
    """What ``subprocess.Popen`` would see to."""
    os.chdir(asked["folder"])
    with Path(os.devnull).open() as nothing, Path(asked["log"]).open("ab") as log:
        for file, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(file.fileno(), number)
    resource.setrlimit(resource.RLIMIT_NOFILE, asked["files"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["resonate-server", *asked["arguments"]]


if __name__ == "__main__":
    import uvloop  # noqa: F401  which the server loads only when it runs

    from resonate_server.__main__ import main

    become(fork_on_demand(socket.socket(fileno=os.dup(0))))
    main()
