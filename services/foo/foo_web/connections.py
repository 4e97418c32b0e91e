"""gunicorn's threaded worker, with a change: its threads meet neither clients that are slow nor clients that linger.

Its main thread collects each request whole before a pool thread gets it, and waits for the client to leave afterwards.
So nobody holds a thread but by work and by waiting for a chain.
"""

import contextlib
import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from selectors import EVENT_READ
from types import FrameType
from typing import override

from gunicorn.http import Request
from gunicorn.workers.gthread import TConn, ThreadWorker

from foo_web.arrivals import Arrival

# How long a client may take to send its request, to take the answer, and to close the connection then.
ARRIVAL_SECONDS = 10
ANSWER_SECONDS = 5
LEAVE_SECONDS = 2
# How many may be at the first and the last of these at once; those who came first make room.
MAX_ARRIVING = 1024
MAX_LEAVING = 256
# How many whole requests may wait for a thread.
MAX_QUEUED = 128
# An answer has room here, also if the client never reads: what it takes at most, and the system's own needs.
SEND_BUFFER_BYTES = 128 * 1024

_RECEIVE_BYTES = 16 * 1024
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: 100\r\n\r\n"
    + b'{"title":"Service Unavailable","status":503,"detail":"foo has more to do than it can"}'.ljust(99)
    + b"\n"
)

type _Readable = Callable[[TConn, socket.socket], None]


class PatientWorker(ThreadWorker):
    """`pending_conns` holds those whose request is on its way, `keepalived_conns` those that have been answered."""

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What has not arrived by now is not waited for."""
        self.method_queue.defer(self._drop_oldest, self.pending_conns, 0)
        super().handle_exit(sig, frame)

    @override
    def accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.parser, conn.initialized = Arrival(conn), True
        self.nr_conns += 1
        self._watch(conn, self.pending_conns, ARRIVAL_SECONDS, self.on_pending_socket_readable)
        self._drop_oldest(self.pending_conns, MAX_ARRIVING)

    @override
    def on_pending_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        data = _receive(client)
        if data is None or (data and not _arrival(conn).add(data)):
            return
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        if data:
            self.enqueue_req(conn)
        else:
            self._close(conn)

    @override
    def enqueue_req(self, conn: TConn) -> None:
        """Health waits for no thread: it is told at once also while a slow server holds them all."""
        at_work = self.nr_conns - len(self.pending_conns) - len(self.keepalived_conns)
        if _arrival(conn).asks_for(b"/health"):
            self.handle(conn)
            self._take_leave(conn)
        elif at_work > self.cfg.threads + MAX_QUEUED:
            with contextlib.suppress(OSError):
                conn.sock.send(_BUSY)
            self._take_leave(conn)
        else:
            super().enqueue_req(conn)

    @override
    def handle_request(self, req: Request, conn: TConn) -> bool:
        conn.sock.settimeout(ANSWER_SECONDS)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client does not take its answer") from None

    @override
    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        self._take_leave(conn)

    @override
    def on_client_socket_readable(self, conn: TConn, client: socket.socket) -> None:
        """What comes after the request is not read as another one."""
        if _receive(client) == b"":
            self.poller.unregister(client)
            self.keepalived_conns.remove(conn)
            self._close(conn)

    def _take_leave(self, conn: TConn) -> None:
        """Let the client close the connection: if this end did so first, the answer might be lost on its way."""
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(conn)
        else:
            self._watch(conn, self.keepalived_conns, LEAVE_SECONDS, self.on_client_socket_readable)
            self._drop_oldest(self.keepalived_conns, MAX_LEAVING)

    def _watch(self, conn: TConn, group: deque[TConn], seconds: float, readable: _Readable) -> None:
        """gunicorn closes what is still in one of its two groups when the time is over."""
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + seconds
        group.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(readable, conn))

    def _drop_oldest(self, group: deque[TConn], most: int) -> None:
        while len(group) > most:
            conn = group.popleft()
            self.poller.unregister(conn.sock)
            self._close(conn)

    def _close(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()


def _arrival(conn: TConn) -> Arrival:
    assert isinstance(conn.parser, Arrival)
    return conn.parser


def _receive(client: socket.socket) -> bytes | None:
    """Empty at the end; None if there is nothing now, or the connection had to make room for another just now."""
    if client.fileno() < 0:
        return None
    try:
        return client.recv(_RECEIVE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""
