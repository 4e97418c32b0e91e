"""An implementation of the SDK's `Network`: sends its requests to the server by HTTP/1.1 over persistent connections.

The SDK's own one waits 300 s for an answer that was lost in the network, and its HTTP client takes a third of a
worker's CPU time. Sending each request in one piece, and parsing answers with httptools, takes a tenth of that.
"""

import asyncio
import logging
import math
import os
import re
import ssl
from contextlib import suppress
from typing import Any, override
from urllib.parse import urlsplit

import aiohappyeyeballs
import httptools
import msgspec
from resonate.error import ConnectorError

logger = logging.getLogger(__name__)

# Without a byte in either direction. Far longer than a busy server takes: repeating too early would add to its load.
ANSWER_SECONDS = 20.0
# How long to wait for an address before trying the next one of the server's name.
NEXT_ADDRESS_SECONDS = 0.25
# The server may close a connection at any moment once it has been idle for longer.
IDLE_SECONDS = 15.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.2
# By these a server refuses for now. As a pause, ours names a second.
FOR_LATER = {408, 429, 502, 503, 504}
BUSY_SECONDS = 1.0
# By these an HTTP server refuses the request itself, in words of its own: repeating it would not help.
MALFORMED = {400, 411, 413, 414, 431}
# What OpenSSL calls an answer that is no TLS.
NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}
# Failures that last this long are logged, and then at this interval.
QUIET_SECONDS = 5.0
REMIND_SECONDS = 60.0

_LENGTH = re.compile(rb"^(?:content-length|transfer-encoding):", re.IGNORECASE | re.MULTILINE)


class HttpNetwork:
    """Repeats a request, on another connection, until it is answered: the server recognises what it has already done.

    Use it on one event loop only.
    """

    def __init__(self, url: str, token: str | None, limit: int = 256) -> None:
        """`limit`: the most connections at a time."""
        self._url = urlsplit(url)
        host = self._url.netloc.rpartition("@")[2]
        head = [f"POST {self._url.path.rstrip('/')}/ HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
        head += [] if token is None else [f"Authorization: Bearer {token}"]
        self._head = "\r\n".join([*head, "Content-Length: "]).encode()
        """Of all requests, up to the length of the body."""
        # Once: reading the system's certificates blocks the event loop.
        self._context = ssl.create_default_context() if self._url.scheme == "https" else None
        self._room = asyncio.Semaphore(limit)
        self._idle: list[_Connection] = []
        """The most recently used one is last."""
        self._busy: set[_Connection] = set()
        self._stopped = asyncio.Event()
        self._warned_at = -math.inf

    async def start(self) -> None:
        """Do nothing: connections are made on demand."""

    async def stop(self) -> None:
        self._stopped.set()
        for connection in (*self._idle, *self._busy):
            connection.close()

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002  `req` has it, too
        """Raises :class:`ConnectorError` after :meth:`stop`, and only then."""
        since = asyncio.get_running_loop().time()
        while True:
            pause = pause_after(asyncio.get_running_loop().time() - since)
            try:
                status, answer = await self._ask(req)
                if not is_for_later(status, answer, req):
                    return answer.decode(errors="replace")
                pause = BUSY_SECONDS
                hint = "; does RESONATE_URL name a Resonate server?" if leads_elsewhere(status) else ""
                error = ConnectionError(f"status {status} instead of an answer{hint}")
                self._tell(error, since, math.inf if hint else REMIND_SECONDS)
            except (OSError, UnicodeError) as error:  # the latter for an invalid host name
                if self._stopped.is_set():
                    raise ConnectorError(error) from error
                self._tell(error, since)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), pause)

    def _tell(self, error: Exception, since: float, interval: float = REMIND_SECONDS) -> None:
        """Warn, once for all failing requests; again after `interval` seconds."""
        now = asyncio.get_running_loop().time()
        if now - since > QUIET_SECONDS and now - self._warned_at >= interval:
            self._warned_at = now
            logger.warning("requests have been failing for %.0f s and are retried: %s", now - since, reason_of(error))

    async def _ask(self, req: str) -> tuple[int, bytes]:
        """Raises :class:`OSError`."""
        body = req.encode()
        message = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        async with self._room:
            while (connection := self._kept()) is not None:
                with suppress(_ClosedMeanwhile):
                    return await self._ask_by(connection, message)
            return await self._ask_by(await self._connect(), message)

    async def _ask_by(self, connection: "_Connection", message: bytes) -> tuple[int, bytes]:
        self._busy.add(connection)
        try:
            answer = await connection.ask(message)
        except BaseException:
            connection.close()
            raise
        finally:
            self._busy.discard(connection)
        if connection.is_open and not self._stopped.is_set():
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _kept(self) -> "_Connection | None":
        oldest = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.pop(0).close()
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        if self._stopped.is_set():
            raise ConnectionError("the worker has closed its connections")
        loop, name, context = asyncio.get_running_loop(), self._url.hostname or "", self._context
        port = self._url.port or (443 if context else 80)
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await loop.getaddrinfo(name, port, type=1)
            reached = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
            secure: dict[str, Any] = {"ssl": context, "server_hostname": name} if context else {}
            _, connection = await loop.create_connection(_Connection, sock=reached, **secure)
        return connection


class _ClosedMeanwhile(ConnectionError):
    """The server closed the connection before any of the answer arrived."""


class _Connection(asyncio.Protocol):
    """A connection for one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self.idle_since = 0.0
        self._transport: Any
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parts: list[bytes] = []
        self._received = 0
        self._beginning = b""
        self._watching: asyncio.TimerHandle

    def ask(self, message: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Return the answer's status and body. Raises :class:`OSError`."""
        self._parts, self._received = [], 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        self._watch()
        return self._answer

    def _watch(self) -> None:
        seen = self._received, self._transport.get_write_buffer_size()
        self._watching = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._look, *seen)

    def _look(self, received: int, unsent: int) -> None:
        if (received, unsent) != (self._received, self._transport.get_write_buffer_size()):
            self._watch()
        else:
            self._fail(TimeoutError(f"no answer for {ANSWER_SECONDS:.0f} s"))

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = transport, True
        self.idle_since = asyncio.get_running_loop().time()

    @override
    def data_received(self, data: bytes) -> None:
        if not self._received:
            self._beginning = data
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"the answer is not HTTP: {error}"))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        head, ends, _ = self._beginning.partition(b"\r\n\r\n")
        if self._answer is not None and self._received and ends and not (exc or _LENGTH.search(head)):
            self.on_message_complete()  # RFC 9112, 6.3: an answer without a length ends with its connection
        reason = f"the connection was closed{f': {exc}' if exc else ''}"
        self._fail(ConnectionError(reason) if self._received else _ClosedMeanwhile(reason))

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._answer is None:
            self.close()  # unsolicited: it could be taken for the answer to the next request

    def on_body(self, part: bytes) -> None:
        """Called by the parser."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._parser.get_status_code() < 200:
            return  # RFC 9110, 15.2: an interim answer; the final one follows
        self.is_open = self.is_open and self._parser.should_keep_alive()
        self.idle_since = asyncio.get_running_loop().time()
        if answer := self._waiting():
            answer.set_result((self._parser.get_status_code(), b"".join(self._parts)))

    def _fail(self, error: Exception) -> None:
        self.close()
        if answer := self._waiting():
            answer.set_exception(error)

    def _waiting(self) -> asyncio.Future[tuple[int, bytes]] | None:
        """Take the future of the answer, if somebody still waits for it."""
        answer, self._answer = self._answer, None
        if answer is None:
            return None
        self._watching.cancel()
        return None if answer.done() else answer


class _Envelope(msgspec.Struct):
    kind: str


def is_for_later(status: int, answer: bytes, req: str) -> bool:
    """Return whether to send a request again: it was not answered by the server, but by a proxy for instance, whatever
    its status, or the server refuses it for now.

    To the SDK each answer is final: it would give the task back, and what its function has just done would be repeated.
    But whoever begins a call hears of the refusal.
    """
    try:
        msgspec.json.decode(answer, type=_Envelope)
    except (ValueError, RecursionError):
        return status not in MALFORMED
    kind = msgspec.json.decode(req, type=_Envelope).kind if status in FOR_LATER else ""
    return kind.startswith("task.") and kind != "task.create"


def leads_elsewhere(status: int) -> bool:
    """Return whether this status, instead of an answer, shows that there is no Resonate server at the URL."""
    return status < 500 and status not in FOR_LATER


def pause_after(seconds: float) -> float:
    """Return how many seconds to wait before the next attempt to reach a server that has been away for `seconds`."""
    return min(max(seconds / 20, SHORTEST_PAUSE), LONGEST_PAUSE)


def reason_of(error: Exception) -> str:
    """Describe the error in a few words, the system's if it has some."""
    if isinstance(error, OSError) and error.errno:
        # Failed name lookups have error numbers of their own, below zero. TLS, also within an error of aiohttp, has 1.
        tls = getattr(error, "os_error", error)
        if isinstance(tls, ssl.SSLError) and tls.reason in NO_TLS:
            return "it does not speak TLS; should the URL begin with http://?"
        is_tls = isinstance(tls, ssl.SSLError)
        text = error.strerror if is_tls or error.errno < 0 else os.strerror(error.errno)
        return (text or type(error).__name__).lower()
    return str(error) or type(error).__name__
