"""Sends requests to a server, one after the other over one connection."""

import uuid
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from resonate_server.protocol.envelope import VERSION

TIMEOUT_S = 30.0
"""A server that takes longer to answer counts as unreachable."""


CHUNK_BYTES = 256 * 1024


class CallFailed(Exception):
    """No answer, or a refusal, with a message for people. ``status`` is 0 if there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _Head(Struct):
    status: int


class Response(Struct):
    head: _Head
    data: Any


class ServerConnection:
    """``server`` is an http(s) URL; ``token`` is sent twice: in the request's head and in its Authorization header."""

    def __init__(self, server: str, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._token = token
        self._http, self._path = _open(server, timeout_s)
        self._timeout_s = timeout_s

    def call(self, kind: str, data: dict[str, Any]) -> Any:
        """Return the answer's data. Raises :class:`CallFailed`, also for a status that is no error to an SDK (300)."""
        response = self.ask(kind, data)
        if 200 <= response.head.status < 300:
            return response.data
        raise CallFailed(_refusal(response), response.head.status)

    def ask(self, kind: str, data: Any, **head: Any) -> Response:
        """Return the answer, whatever its status; ``head`` is added to the request's head. Raises :class:`CallFailed`
        if there is no answer."""
        status, body = self._post(msgspec.json.encode({"kind": kind, "head": self._head() | head, "data": data}))
        try:
            return msgspec.json.decode(body, type=Response)
        except msgspec.DecodeError:
            raise CallFailed(f"{self._server} does not answer like a Resonate server (HTTP status {status})") from None

    def get(self, path: str) -> bytes:
        """Return the body of ``GET path``. Raises :class:`CallFailed`."""
        response = self._begin_download(path)
        parts = []
        while chunk := self._read(response):
            parts.append(chunk)
        return b"".join(parts)

    def download(self, path: str, into: BinaryIO) -> int:
        """Write the body of ``GET path`` to ``into``; return its size in bytes.

        Raises :class:`CallFailed`, also if the body is incomplete, and ``OSError`` if ``into`` cannot be written.
        """
        response = self._begin_download(path)
        size = 0
        while chunk := self._read(response):
            into.write(chunk)
            size += len(chunk)
        if size != int(response.headers["Content-Length"]):
            raise CallFailed(f"the server at {self._server} did not send all of it")
        return size

    def _begin_download(self, path: str) -> HTTPResponse:
        try:
            response = self._ask("GET", self._path + path, None, {})
            if response.status == HTTPStatus.OK:
                return response
            refusal = response.read().decode(errors="replace").strip()
        except (OSError, HTTPException, ValueError) as error:
            raise CallFailed(f"cannot reach the server at {self._server}: {_reason(error, self._timeout_s)}") from None
        raise CallFailed(f"{refusal} (status {response.status})", response.status)

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            return response.read(CHUNK_BYTES)
        except (OSError, HTTPException) as error:
            reason = _reason(error, self._timeout_s)
            raise CallFailed(f"the server at {self._server} did not send all of it: {reason}") from None

    def _head(self) -> dict[str, str]:
        head = {"corrId": f"cli-{uuid.uuid4()}", "version": VERSION}
        return head if self._token is None else {**head, "auth": self._token}

    def _post(self, body: bytes) -> tuple[int, bytes]:
        try:
            response = self._ask("POST", self._path, body, {"Content-Type": "application/json"})
            return response.status, response.read()
        except (OSError, HTTPException, ValueError) as error:
            self._http.close()
            raise CallFailed(f"cannot reach the server at {self._server}: {_reason(error, self._timeout_s)}") from None

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> HTTPResponse:
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        self._http.request(method, path, body, headers)
        return self._http.getresponse()


def _open(server: str, timeout_s: float) -> tuple[HTTPConnection, str]:
    try:
        url = urlsplit(server)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise CallFailed(f"not a server's URL: {server} ({error})") from None
    if url.scheme not in ("http", "https") or not host:
        raise CallFailed(f"not a server's URL: {server} (expected something like http://localhost:8001)")
    http = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return http(host, port, timeout=timeout_s), url.path.rstrip("/") + "/"


def _refusal(response: Response) -> str:
    message = response.data if isinstance(response.data, str) else msgspec.json.encode(response.data).decode()
    return f"{message} (status {response.head.status})"


def _reason(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:.0f} s"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
