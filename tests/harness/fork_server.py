"""A process that has our programs loaded and forks into one of them on demand, in a tenth of the usual start time.

It is started as a program of its own, so it shares no memory with pytest.
"""

import importlib
import json
import os
import resource
import runpy
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

LOADED = (
    "uvloop",
    "resonate_server.__main__",
    "resonate_server.store.postgres",
    "resonate_server.watch.lost_attempts",
    "worker.tracing",
    "foo_web",
)
MODULES = ("resonate_server", "foo", "bar", "baz")
"""Those that are run by ``-m``. Any program that tests run from a file is a worker."""
LATE_VARIABLE_PREFIXES = (
    "RESONATE_",
    "OTEL_",
    "PYTEST_",
    "FOO_",
    "LEASE_",
    "LOG_FILE",
    "MAX_TASKS",
    "DEMO_",
    "HEALTH_",
    "BLOCK_",
    "KEEP_",
    "COLUMNS",
    "LINES",
)
"""Prefixes of variables that are read only after a program is loaded, or never. All others may matter earlier."""
INITIAL_ENVIRONMENT = dict(os.environ)
"""The environment in which everything is loaded, whatever the current test sets."""

MAX_BYTES = 2**17
"""Maximum size of a message between the two processes."""


class Forked:
    """A forked program, with the part of the ``subprocess.Popen`` interface that tests use."""

    def __init__(self, server: "ForkServer", pid: int) -> None:
        self._server = server
        self.pid = pid
        self.status: int | None = None
        """Once it has ended; negative: the signal that ended it. In a long run, another program gets its pid."""

    def poll(self) -> int | None:
        self._server.wait_for(self, seconds=0)
        return self.status

    def wait(self, timeout: float) -> int:
        self._server.wait_for(self, timeout)
        if self.status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """Each pytest process has one for each network, started with the first program there. The server ends when this
    end of its socket is closed."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs.fileno(), env=INITIAL_ENVIRONMENT)
        theirs.close()
        self._living: dict[int, Forked] = {}
        self._lock = threading.Lock()

    def start(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> Forked:
        """``words``: the command after the interpreter."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        asked = {"words": words, "env": dict(env), "log": str(log), "folder": str(Path.cwd()), "files": files}
        with self._lock:
            self._socket.settimeout(None)
            self._socket.sendall(json.dumps(asked).encode())
            while (pid := self._hear()) is None:
                pass
            self._living[pid] = forked = Forked(self, pid)
        return forked

    def wait_for(self, forked: Forked, seconds: float) -> None:
        """Wait until it has ended, for no longer than that."""
        end = time.monotonic() + seconds
        while True:
            with self._lock:  # released between two looks, for other threads
                left = max(end - time.monotonic(), 0)
                self._socket.settimeout(min(left, 0.05))
                with suppress(BlockingIOError, TimeoutError):
                    while forked.status is None:
                        self._hear()
                if forked.status is not None or not left:
                    return

    def _hear(self) -> int | None:
        """Return the pid of a program that has started, or ``None`` for a message that one has ended."""
        pid, status = json.loads(self._socket.recv(MAX_BYTES))
        if status is None:
            return int(pid)
        self._living.pop(pid).status = status
        return None


_servers: dict[Path, ForkServer] = {}
"""By network namespace (:mod:`harness.network`)."""


def start(command: Sequence[str], env: Mapping[str, str], log: Path) -> Forked | None:
    """Return ``None`` if the program must load itself: it is measured, not under pytest, or has unusual settings."""
    changed = [name for name, _ in env.items() ^ INITIAL_ENVIRONMENT.items()]
    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    is_usual = _is_ours(command) and all(name.startswith(LATE_VARIABLE_PREFIXES) for name in changed) and not is_nohup
    if not is_usual or sys.platform != "linux" or "PYTEST_VERSION" not in os.environ:
        return None
    network = Path("/proc/thread-self/ns/net").readlink()
    if network not in _servers:
        _servers[network] = ForkServer()
    return _servers[network].start(command[1:], env, log)


def _is_ours(command: Sequence[str]) -> bool:
    match command:
        case [sys.executable, "-m", module, *_]:
            return module in MODULES
        case [sys.executable, "-c", program, *_]:
            return "resonate_server" in program
        case [sys.executable, file, *_]:
            return file.endswith(".py")
    return False


def fork_on_demand(requests: socket.socket) -> dict[str, Any]:
    """Fork on every request. Return only in the child, with the request that it is to serve."""
    living: set[int] = set()

    def tell_ends(*_: object) -> None:
        while (ended := _waitpid())[0]:
            living.discard(ended[0])
            with suppress(ConnectionError):
                requests.sendall(json.dumps([ended[0], os.waitstatus_to_exitcode(ended[1])]).encode())

    signal.signal(signal.SIGCHLD, tell_ends)
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal and `timeout` send them to the whole group
        signal.signal(number, signal.SIG_IGN)
    while text := _next_request(requests):
        asked: dict[str, Any] = json.loads(text)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # report its start before its end
        pid = os.fork()
        if not pid:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            return asked
        living.add(pid)
        requests.sendall(json.dumps([pid, None]).encode())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in living:  # left over from tests that failed to end them
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    sys.exit()


def _next_request(requests: socket.socket) -> bytes:
    """Return nothing if the tests have ended, even if they were killed before they had read everything."""
    try:
        return requests.recv(MAX_BYTES)
    except ConnectionError:
        return b""


def _waitpid() -> tuple[int, int]:
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0


def become(asked: dict[str, Any]) -> None:
    """Do what ``subprocess.Popen`` would do in the child, then what the interpreter would do."""
    os.setsid()
    os.chdir(asked["folder"])
    with Path(os.devnull).open() as nothing, Path(asked["log"]).open("ab") as log:
        for file, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(file.fileno(), number)
    resource.setrlimit(resource.RLIMIT_NOFILE, asked["files"])
    os.environ.clear()
    os.environ.update(asked["env"])
    run(asked["words"])


def run(words: Sequence[str]) -> None:
    if words[0] == "-m":
        sys.argv = list(words[1:])
        sys.modules.pop(f"{words[1]}.__main__", None)  # about to be run
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(words)
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    for module in LOADED:
        importlib.import_module(module)
    become(fork_on_demand(socket.socket(fileno=os.dup(0))))
