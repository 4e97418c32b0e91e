"""gunicorn's asynchronous worker, set up for requests that wait long, for slow clients, and for a prompt shutdown.

It has no settings for most of this. Each override of gunicorn 27.0.1 names a test that fails without it.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar, override

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.asgi.protocol import _REASON_PHRASES, ASGIProtocol  # type: ignore[attr-defined]
from gunicorn.workers import gasgi

from foo_web.app import create_app
from foo_web.chains import Chains
from foo_web.flask_async import LEAVE_SECONDS
from worker import RunningWorker, Settings, Worker, configure_logging, ending_signals

logger = logging.getLogger(__name__)

MAX_OPEN_FILES = 4096
# How long to wait for a port in use: a foo that was killed holds it for a moment.
TAKEN_SECONDS = 5
GRACE_SECONDS = 3
# As long as a blocked event loop keeps its leases (`worker.heartbeats`).
BLOCKED_SECONDS = 300

# How long a client may take to send its request, and how many may be sending one; beyond that the oldest is closed.
ARRIVAL_SECONDS = 10
LAST_LOOK_SECONDS = 0.1
MAX_ARRIVING = 1024
MAX_HEAD_BYTES = 32 * 1024

_ENDING = ending_signals()

# gunicorn has only some phrases, and not those of RFC 9110: test_lengths_that_are_absurd.
_REASON_PHRASES.update({status: status.phrase for status in HTTPStatus})


def serve(worker: Worker) -> None:
    """Answer HTTP requests by running the worker's function, until SIGTERM, SIGINT or SIGHUP."""
    configure_logging()
    host, port = os.environ.get("FOO_HOST") or "127.0.0.1", os.environ.get("FOO_PORT") or "5000"
    if not (port.isdecimal() and 0 < int(port) < 65536):
        sys.exit(f"FOO_PORT must be a port number from 1 to 65535, not {port!r}")
    settings = Settings.from_environment()
    _wait_until_free(host, int(port))
    # As many as fit in a header: gunicorn parses Content-Length with int(). See test_lengths_that_are_absurd.
    sys.set_int_max_str_digits(8190)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # some systems default to 256 files
    files = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    gc.freeze()  # what exists by now lives on: the collector need not scan it
    _Server(worker, settings, f"[{host}]:{port}" if ":" in host else f"{host}:{port}").run()


class _Server(BaseApplication):
    def __init__(self, worker: Worker, settings: Settings, address: str) -> None:
        self._worker, self._settings, self._address = worker, settings, address
        super().__init__()

    @override
    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._address,
            "worker_class": _Process,
            "asgi_lifespan": "off",
            "asgi_disconnect_grace_period": 0,  # do not wait for clients that have left
            "keepalive": 0,
            "timeout": BLOCKED_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "control_socket_disable": True,
            "loglevel": "warning",
            "errorlog": None,
            "on_starting": _prepare,
            "when_ready": lambda _: logger.info("listening on http://%s", self._address),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        """Connect in the worker process, on the loop that it has made: no loop survives a fork."""

        async def connect() -> RunningWorker:
            return RunningWorker(self._worker, self._settings)

        self._running = asyncio.get_event_loop().run_until_complete(connect())
        hosts, offers_faults = os.environ.get("FOO_HOSTS", ""), self._settings.offers_faults
        self._web = create_app(Chains(self._worker, self._running), hosts, offers_faults=offers_faults)
        return self._web

    async def end(self) -> None:
        """Send all clients away, then release the leases."""
        await self._web.reject_all()
        await self._running.stop()


class _Process(gasgi.ASGIWorker):
    @override
    async def _serve(self) -> None:  # type: ignore[misc]
        """Answer waiting clients at once, however the process is ended: gunicorn would let them wait.

        See test_foo_is_told_to_stop_while_it_claims_tasks_for_100_clients,
        test_foo_whose_parent_is_killed_sends_its_clients_away_and_ends, and
        test_foo_that_nohup_has_started_outlives_its_terminal_and_so_do_its_requests.
        """
        told_to_end = asyncio.Event()
        for number in (*_ENDING, signal.SIGHUP):
            handler = told_to_end.set if number in _ENDING else lambda: None
            asyncio.get_running_loop().add_signal_handler(number, handler)
        serving = asyncio.create_task(super()._serve())  # type: ignore[misc]
        # `serving` ends by itself when the parent is gone, or if a signal came before these handlers were installed.
        await asyncio.wait([serving, asyncio.create_task(told_to_end.wait())], return_when=asyncio.FIRST_COMPLETED)
        await self.app.end()  # type: ignore[attr-defined]
        await asyncio.wait([serving])  # cancelled by `end`, it closes its sockets and waits for clients to leave


def _prepare(parent: Arbiter) -> None:
    """See test_what_gunicorn_tells_is_among_the_lines_of_foo, and test_foo_ends_when."""
    logging.getLogger("gunicorn.error").propagate = True
    # On SIGHUP, gunicorn would reload the code; a closed terminal does not ask for that.
    parent.handle_hup = parent.handle_term if signal.SIGHUP in _ENDING else lambda: None  # type: ignore[method-assign]


class BoundedProtocol(ASGIProtocol):
    """Reads one request, which has to arrive in time. See test_600_half_requests_delay_nobody_and_are_closed,
    test_more_half_requests_than_there_is_room_for_delay_nobody, test_what_clients_send_without_need_takes_no_memory,
    test_a_request_may_wait_for_longer_than_it_may_take_to_arrive,
    test_requests_that_arrive_while_foo_is_frozen_are_answered, test_clients_that_leave_early_take_no_place_from_others,
    and test_clients_that_never_read_their_answer_delay_nobody_and_are_closed.
    """

    arriving: ClassVar[dict["BoundedProtocol", asyncio.TimerHandle]] = {}
    transport: Any
    _received = 0

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.arriving[self] = asyncio.get_running_loop().call_later(ARRIVAL_SECONDS, self._is_late)
        if len(self.arriving) > MAX_ARRIVING:
            oldest = next(iter(self.arriving))
            oldest._has_arrived()
            oldest.transport.abort()

    def _is_late(self) -> None:
        """Read once more before closing: after a freeze the time is over before what came meanwhile is read."""
        self.arriving[self] = asyncio.get_running_loop().call_later(LAST_LOOK_SECONDS, self.transport.abort)

    @override
    def data_received(self, data: bytes) -> None:
        if self not in self.arriving:
            return
        super().data_received(data)
        self._received += len(data)
        if self._current_request is None and self._received > MAX_HEAD_BYTES:  # type: ignore[attr-defined]
            self._send_error_response(431, "the head of the request is too large")  # type: ignore[attr-defined]
            self._close_transport()

    @override
    def _on_message_complete(self) -> None:  # type: ignore[misc]
        super()._on_message_complete()  # type: ignore[misc]
        self._has_arrived()

    @override
    def _close_transport(self) -> None:  # type: ignore[misc]
        """The transport would wait for a client that does not read its answer, however long that takes."""
        super()._close_transport()  # type: ignore[misc]
        if self.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(LEAVE_SECONDS, self.transport.abort)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._has_arrived()

    def _has_arrived(self) -> None:
        if deadline := self.arriving.pop(self, None):
            deadline.cancel()


gasgi.ASGIProtocol = BoundedProtocol  # type: ignore[attr-defined]


def _wait_until_free(host: str, port: int) -> None:
    """Exit with advice if the port stays in use, even by a listener on all addresses: macOS has a service on *:5000."""
    deadline = time.monotonic() + TAKEN_SECONDS
    with suppress(OSError):
        while time.monotonic() < deadline:
            socket.create_connection((host, port), timeout=1).close()
            time.sleep(0.2)
        sys.exit(f"port {port} is taken; see the variables FOO_HOST and FOO_PORT")
