"""gunicorn, configured for requests that wait long, and that end at once."""

import asyncio
import gc
import logging
import os
import resource
import socket
import sys
import time
from concurrent.futures import TimeoutError as StillRunning
from contextlib import suppress
from typing import Any, override

from gunicorn.app.base import BaseApplication
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers import gasgi

from foo_web.app import create_app
from foo_web.chains import STOP_SECONDS, Chains
from foo_web.connections import BoundedProtocol
from worker import Settings, Worker, configure_logging

logger = logging.getLogger(__name__)

MAX_OPEN_FILES = 4096
# How long to wait for a port that is taken: a foo that was killed holds it for a moment.
TAKEN_SECONDS = 2
GRACE_SECONDS = 3


def serve(worker: Worker) -> None:
    """Answer HTTP requests by running the worker's function, until SIGTERM or SIGINT."""
    configure_logging()
    host, port = os.environ.get("FOO_HOST") or "127.0.0.1", os.environ.get("FOO_PORT") or "5000"
    if not (port.isdecimal() and 0 < int(port) < 65536):
        sys.exit(f"FOO_PORT must be a port number from 1 to 65535, not {port!r}")
    settings = Settings.from_environment()
    _wait_until_free(host, int(port))
    sys.set_int_max_str_digits(8190)  # as many as a header may have: gunicorn reads Content-Length with int()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # some systems allow a process 256 files unless it asks
    files = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    gc.freeze()  # what is there by now stays: it need not be searched for garbage, least of all at the end
    _Server(worker, settings, f"[{host}]:{port}" if ":" in host else f"{host}:{port}").run()


class _Server(BaseApplication):
    def __init__(self, worker: Worker, settings: Settings, address: str) -> None:
        self.worker, self.settings, self.address = worker, settings, address
        # Ends with gunicorn's master: if that is killed, its worker must not go on serving the port.
        self.lifeline, self._held_by_master = os.pipe()
        super().__init__()

    @override
    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self.address,
            "worker_class": "foo_web.server.QuickWorker",
            "asgi_lifespan": "off",
            "keepalive": 0,  # an idle connection would hold up the end of the process
            "graceful_timeout": GRACE_SECONDS,
            "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,  # noqa: S108, PTH112
            "control_socket_disable": True,
            "loglevel": "warning",
            "logger_class": _Logger,
            "when_ready": lambda _: logger.info("listening on http://%s", self.address),
            "worker_exit": lambda _, worker: worker.app.end(),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        """Called in the worker process: threads and event loops do not survive a fork."""
        os.close(self._held_by_master)
        self.chains = Chains(self.worker, self.settings)
        return create_app(self.chains, os.environ.get("FOO_HOSTS", ""))

    def end(self) -> None:
        with suppress(StillRunning):
            self.chains.stop().result(STOP_SECONDS)
        self.chains.send_spans()


class QuickWorker(gasgi.ASGIWorker):
    """Ends within seconds though requests wait or are on their way."""

    app: _Server
    _serving: asyncio.Task[None] | None = None

    @override
    async def _serve(self) -> None:  # type: ignore[misc]
        """See test_half_requests_do_not_hold_up_the_end, and test_foo_that_was_killed_can_be_started_again_at_once."""
        self._serving = asyncio.current_task()
        asyncio.get_running_loop().add_reader(self.app.lifeline, self.handle_exit_signal)
        await super()._serve()  # type: ignore[misc]

    @override
    def handle_exit_signal(self) -> None:
        """See test_foo_that_ends_sends_its_clients_away."""
        if self.alive and self._serving is not None:
            self.app.chains.stop()
            for connection in list(BoundedProtocol.arriving):
                connection.drop()
            asyncio.get_running_loop().remove_reader(self.app.lifeline)
            self._serving.cancel()  # from its sleep, for up to a second
        super().handle_exit_signal()

    @override
    def handle_quit_signal(self) -> None:
        """See test_foo_that_ends_sends_its_clients_away."""
        self.handle_exit_signal()


class _Logger(Logger):
    """Leaves gunicorn's records to the handlers of the program."""

    @override
    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


gasgi.ASGIProtocol = BoundedProtocol  # type: ignore[attr-defined]  # the worker has no place for another one


def _wait_until_free(host: str, port: int) -> None:
    """Say clearly what to do about a port that is taken, also on all addresses: macOS has a service on *:5000."""
    deadline = time.monotonic() + TAKEN_SECONDS
    with suppress(OSError):
        while time.monotonic() < deadline:
            socket.create_connection((host, port), timeout=1).close()
            time.sleep(0.2)
        sys.exit(f"port {port} is taken; see the variables FOO_HOST and FOO_PORT")
