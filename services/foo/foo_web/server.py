"""gunicorn, configured for requests that wait long: many threads in one process, that end at once."""

import errno
import logging
import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, override

from gunicorn.app.base import BaseApplication

from foo_web.app import MAX_WAITING, create_app
from foo_web.chains import Chains
from foo_web.connections import PatientWorker
from foo_web.logs import GunicornLogger
from worker import Settings, Worker, configure_logging, end_process

logger = logging.getLogger(__name__)

_LOCAL = {"127.0.0.1", "::1", "localhost", "0.0.0.0", "::"}  # noqa: S104

SPARE_THREADS = 64
CONNECTIONS = 2048
# How long to wait for a port that is taken.
TAKEN_SECONDS = 2
# How long clients may take to close their connections when the worker process ends, and when it is killed.
WORKER_GRACE_SECONDS = 1
GRACE_SECONDS = 3


def serve(worker: Worker) -> None:
    """Answer HTTP requests by running the worker's function, until SIGTERM or SIGINT."""
    configure_logging()
    host, port = os.environ.get("FOO_HOST") or "127.0.0.1", _port(os.environ.get("FOO_PORT") or "5000")
    settings = Settings.from_environment()
    _wait_until_free(host, port)
    _allow_open_files(CONNECTIONS + 256)
    _Server(worker, settings, f"[{host}]:{port}" if ":" in host else f"{host}:{port}").run()


class _Server(BaseApplication):
    def __init__(self, worker: Worker, settings: Settings, address: str) -> None:
        self.worker = worker
        self.settings = settings
        self.address = address
        self.chains: Chains | None = None
        self._lifeline, self._held_by_master = os.pipe()
        super().__init__()

    @override
    def load_config(self) -> None:
        shared_memory = Path("/dev/shm")  # noqa: S108  gunicorn makes its file there safely
        options: dict[str, Any] = {
            "bind": self.address,
            "worker_class": "foo_web.server.WaitingWorker",
            "workers": 1,
            "threads": MAX_WAITING + SPARE_THREADS,
            "worker_connections": CONNECTIONS,
            "keepalive": 0,  # an idle connection would hold up the end of the process
            "graceful_timeout": GRACE_SECONDS,
            "worker_tmp_dir": str(shared_memory) if shared_memory.is_dir() else None,
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": GunicornLogger,
            "when_ready": lambda _: logger.info("listening on http://%s", self.address),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        """Called in the worker process: threads and event loops do not survive a fork."""
        self.chains = Chains(self.worker, self.settings)
        threading.Thread(target=self._end_with_master, args=[self.chains], daemon=True).start()
        return create_app(self.chains, os.environ.get("FOO_HOSTS", ""))

    def _end_with_master(self, chains: Chains) -> None:
        """Whoever kills the program kills gunicorn's master; its worker must not go on serving the port."""
        os.close(self._held_by_master)
        os.read(self._lifeline, 1)  # ends when the last holder of the other end is gone
        chains.stop()
        chains.join()
        end_process()


class WaitingWorker(PatientWorker):
    """Ends within a second though requests wait: they are told to come back."""

    app: _Server

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.app.chains is not None:
            self.app.chains.stop()
        super().handle_exit(sig, frame)

    @override
    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        self.handle_exit(sig, frame)

    @override
    def run(self) -> None:
        self.cfg.set("graceful_timeout", WORKER_GRACE_SECONDS)
        super().run()
        if self.app.chains is not None:
            self.app.chains.stop()
            self.app.chains.join()
        end_process()


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 65536):
        sys.exit(f"FOO_PORT must be a port number from 1 to 65535, not {text!r}")
    return int(text)


def _wait_until_free(host: str, port: int) -> None:
    """Say clearly what to do about a port that cannot be had. A foo that was killed holds it for a moment."""
    deadline = time.monotonic() + TAKEN_SECONDS
    while trouble := _trouble(host, port):
        if time.monotonic() > deadline:
            sys.exit(f"{trouble}; see the variables FOO_HOST and FOO_PORT")
        time.sleep(0.2)


def _trouble(host: str, port: int) -> str | None:
    """Why this address cannot be listened on, if it cannot."""
    if host in _LOCAL and _someone_answers(port):
        return f"port {port} is taken"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            return f"port {port} is taken" if taken else f"cannot listen on {host}: {error.strerror}"
    return None


def _someone_answers(port: int) -> bool:
    """Also on an address that could be bound beside ours: macOS has a service of its own on *:5000."""
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True


def _allow_open_files(number: int) -> None:
    """Each waiting request holds a connection; some systems allow a process 256 files unless it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
