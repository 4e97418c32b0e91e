"""Sends requests to a server, one after the other over one connection."""

import io
import re
import socket
import time
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, BinaryIO, override
from urllib.parse import urlsplit

import click
import msgspec
from msgspec import Struct

from resonate_server.client.values import now_ms, printable
from resonate_server.protocol.envelope import VERSION
from resonate_server.protocol.payload import NOT_JSON

TIMEOUT_S = 30.0
"""A server that takes longer to answer counts as unreachable."""

CHUNK_BYTES = 256 * 1_024
MAX_ANSWER_BYTES = 256 * 2**20
"""Of an answer that is kept in memory. A page of this server has 4 MiB; others may not limit theirs."""

REFUSAL_SHOWN = 5_000
"""Characters of a refusal that are shown: more than any id has, but what answers may be any web server."""

UNKNOWN_KIND = 501

AGREES_MS = 3_000
"""Two clocks that differ by less may agree: a date leaves out the milliseconds, and answers take their time."""

TOKEN = re.compile(r"[!-~]*")
"""What a header can hold."""


class CallFailed(click.ClickException):
    """No answer, or a refusal, with a message for people. ``status`` is 0 if there was no answer.

    A command that does not catch it ends with the message, and with exit status 1.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @override
    def format_message(self) -> str:
        return printable(self.message)

    @property
    def is_transient(self) -> bool:
        """Whether it may pass: no answer, one from a proxy, or a server that is not ready."""
        return self.status in (0, 429) or (self.status >= 500 and self.status != UNKNOWN_KIND)


class _Head(Struct):
    status: int


class Response(Struct):
    head: _Head
    data: Any


class _ErrorBody(Struct):
    error: str


class ServerConnection:
    """``server`` is an http(s) URL; ``token`` is sent twice: in the request's head and in its Authorization header.

    ``timeout_s``: how long an answer may take; ``end``: until when at all, by the monotonic clock.
    """

    def __init__(
        self, server: str, token: str | None = None, timeout_s: float = TIMEOUT_S, end: float = float("inf")
    ) -> None:
        self._server = re.sub("//[^/]*@", "//", server)  # messages must not show a password
        self._http, self._path = _open(server, self._server)
        if token and not TOKEN.fullmatch(token):
            raise CallFailed("the token has a blank, a line end or another character that no token has")
        self._token = token or None
        self._timeout_s = self._allowed_s = timeout_s
        self._end = end

    def call(self, kind: str, data: dict[str, Any]) -> Any:
        """Return the answer's data. Raises :class:`CallFailed`, also for a status that is no error to an SDK (300)."""
        response = self.ask(kind, data)
        if 200 <= response.head.status < 300:
            return response.data
        raise CallFailed(_refusal(response), response.head.status)

    def ask(self, kind: str, data: Any, **head: Any) -> Response:
        """Return the answer, whatever its status; ``head`` is added to the request's head. Raises :class:`CallFailed`
        if there is no answer."""
        try:
            body = msgspec.json.encode({"kind": kind, "head": self._head() | head, "data": data})
        except (ValueError, OverflowError, RecursionError) as error:
            raise CallFailed(f"this cannot be sent: {error}") from None
        response = self._request("POST", self._path, body)
        try:
            return msgspec.json.decode(self._whole(response), type=Response)
        except NOT_JSON:
            wrong = f"{self._server} does not answer like a Resonate server (HTTP status {response.status})"
            raise CallFailed(wrong + self._hint) from None

    def now_ms(self) -> int:
        """Return the time in ms by the server's clock, which judges all deadlines. Raises :class:`CallFailed`.

        The date of an answer has only seconds, so this machine's clock counts if the two agree."""
        response = self._request("GET", self._path + "health", None)
        self._whole(response)
        here = now_ms()
        try:
            there = round(parsedate_to_datetime(response.headers.get("Date", "")).timestamp() * 1_000)
        except (ValueError, OverflowError):  # It has no date.
            return here
        return here if abs(there - here) < AGREES_MS else there

    def get(self, path: str) -> bytes:
        """Return the body of ``GET path``. Raises :class:`CallFailed`."""
        return self._whole(self._begin_get(path))

    def download(self, path: str, into: BinaryIO) -> int:
        """Write the body of ``GET path`` to ``into``; return its size in bytes.

        It may take as long as it likes, as long as it moves. Raises :class:`CallFailed`, also if the body is
        incomplete, and ``OSError`` if ``into`` cannot be written.
        """
        response = self._begin_get(path, is_long=True)
        if response.length is None and not response.chunked:
            raise CallFailed(f"the server at {self._server} does not say where the answer ends")
        return sum(into.write(part) for part in self._parts(response))

    def _begin_get(self, path: str, is_long: bool = False) -> HTTPResponse:
        response = self._request("GET", self._path + path, None, is_long)
        if response.status == HTTPStatus.OK:
            return response
        hint = self._hint if response.status == HTTPStatus.NOT_FOUND else ""
        raise CallFailed(_refusal_of_get(response, self._whole(response)) + hint, response.status)

    @property
    def _hint(self) -> str:
        """What to do if somebody else answers."""
        return f"; should the URL end before {self._path.rstrip('/')}?" if self._path != "/" else ""

    def _whole(self, response: HTTPResponse) -> bytes:
        parts, size = list[bytes](), 0
        for part in self._parts(response):
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                self._http.close()
                raise CallFailed(f"the server at {self._server} answers with more than {MAX_ANSWER_BYTES >> 20} MiB")
        return b"".join(parts)

    def _parts(self, response: HTTPResponse) -> Iterator[bytes]:
        """Yield the body in small parts, as any length may be announced."""
        try:
            while part := response.read(CHUNK_BYTES):
                yield part
            reason = f"{response.length} bytes are missing" if response.length else ""
        except (OSError, HTTPException, ValueError) as error:
            reason = self._reason(error)
        if reason:
            self._http.close()
            raise CallFailed(f"the server at {self._server} did not send all of it: {reason}")

    def _head(self) -> dict[str, str]:
        head = {"corrId": f"cli-{uuid.uuid4()}", "version": VERSION}
        return head if self._token is None else {**head, "auth": self._token}

    def _request(self, method: str, path: str, body: bytes | None, is_long: bool = False) -> HTTPResponse:
        """``is_long``: the time is not limited as a whole, but for each part."""
        http, now = self._http, time.monotonic()
        end = min(now + self._timeout_s, self._end)
        headers = {"Content-Type": "application/json"} if body else {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        http.timeout = self._allowed_s = max(end - now, 0.001)  # 0 would mean: without waiting
        http.response_class = HTTPResponse if is_long else partial(_PunctualResponse, end)  # type: ignore[assignment]
        try:
            if http.sock is not None:
                http.sock.settimeout(http.timeout)
            http.request(method, path, body, headers)
            return http.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            http.close()
            raise CallFailed(f"cannot reach the server at {self._server}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._allowed_s:.3g} s"
        return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


class _PunctualResponse(HTTPResponse):
    """Has to be complete at ``end``: a socket's own timeout starts over with each byte."""

    def __init__(self, end: float, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self.fp = io.BufferedReader(_PunctualReader(self.fp.detach(), sock, end))


class _PunctualReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, end: float) -> None:
        self._raw = raw
        self._socket = sock
        self._end = end

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


def _open(server: str, shown: str) -> tuple[HTTPConnection, str]:
    try:
        url = urlsplit(server)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise CallFailed(f"not a server's URL: {shown} ({error})") from None
    if url.scheme not in ("http", "https") or not host:
        raise CallFailed(f"not a server's URL: {shown} (expected something like http://localhost:8001)")
    http = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return http(host, port), url.path.rstrip("/") + "/"


def _refusal(response: Response) -> str:
    message = response.data if isinstance(response.data, str) else msgspec.json.encode(response.data).decode()
    return f"{message[:REFUSAL_SHOWN]} (status {response.head.status})"


def _refusal_of_get(response: HTTPResponse, body: bytes) -> str:
    """Return the sentence in it; what a web server says to a browser is none."""
    try:
        told = msgspec.json.decode(body, type=_ErrorBody).error
    except NOT_JSON:
        told = body.decode(errors="replace").strip()
    if not told or response.headers.get_content_type() == "text/html":
        told = "this is not a Resonate server that has it"
    return f"{told[:REFUSAL_SHOWN]} (status {response.status})"
