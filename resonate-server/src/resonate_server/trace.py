"""``--trace FILE``: records every request and its answer, one JSON object per line, in the order they took effect.

The format is that of the published checker: ``{"kind", "now", "req", "res"}`` with the data of the request and the
whole envelope of the answer. Heads of requests, and of actions inside them, are not written, as they may hold a token.
A fifth member, ``undone``, appears only if something was due by the time of the decision that the server had not done
yet: it says since when (ms).

A trace must not hold up the server: a separate thread writes the lines. If it cannot keep up, or the disk is full, the
trace ends, and the log says so once.
"""

import json
import logging
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import msgspec

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import Envelope, encode_response
from resonate_server.protocol.requests import Request

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 16 * 1_024 * 1_024
"""Limit on the lines waiting for the disk."""

UNWRITABLE = (ValueError, RecursionError)
"""Raised for JSON with invalid texts, infinite numbers or excessive nesting."""

NEVER = 2**63

CLOSE_TIMEOUT_S = 1.0
"""How long a stopping server waits for the disk."""


class TraceUnusable(Exception):
    """The file cannot be written, or is not empty; the text is for people."""


class Trace:
    """Used on the event loop, until :meth:`close`. No method raises.

    Envelopes are kept by the identity of their request until it is answered.
    """

    def __init__(self, path: Path) -> None:
        """Raises :class:`TraceUnusable`."""
        self._path = path
        self._file = _open(path)
        self._asked: dict[int, Envelope] = {}
        self.last = 0
        """Time of the latest decision (ms)."""
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._taken, self._written = 0, 0
        """In bytes; the thread counts the second."""
        self._is_over = False
        self._thread = threading.Thread(target=self._write, name="trace", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)

    def asks(self, request: Request, envelope: Envelope) -> None:
        """Remember the ``envelope`` of ``request``, which is about to be decided."""
        self._asked[id(request)] = envelope

    def forget(self, request: Request) -> None:
        """Forget a request that was answered, or never will be."""
        self._asked.pop(id(request), None)

    def answers(self, request: Request | None, now: int, answer: Answer, due_at: int) -> None:
        """Record an answer decided at ``now``, after all others so far, but before what was due at ``due_at`` (ms)."""
        envelope = self._asked.get(id(request))
        if envelope is None or answer.status in (500, 503):  # A failing store decides nothing.
            return
        self.last = now
        try:
            data = _on_one_line(envelope)
        except UNWRITABLE:  # Ignored members may hold anything: write only the others.
            data = msgspec.json.encode(request)
        self._put(_line(envelope, data, now, answer, due_at))

    def refuses(self, envelope: Envelope, answer: Answer) -> None:
        """Record a request refused for its form, which changes nothing. Leave out what cannot be written as JSON."""
        with suppress(*UNWRITABLE):
            self._put(_line(envelope, _on_one_line(envelope), self.last, answer, NEVER))

    def _put(self, line: bytes) -> None:
        if self._is_over:
            return
        self._taken += len(line)
        self._lines.put(line)
        if self._taken - self._written > MAX_WAITING_BYTES:
            self._end("the disk cannot keep up")

    def _end(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._lines.put(None)
            logger.error("the trace %s ends here: %s; the server continues without it", self._path, reason)

    # --- on the thread ----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._append(line)
                self._written += len(line)
        except OSError as error:
            self._end(error.strerror or str(error))
            with suppress(OSError):
                os.ftruncate(self._file, self._written)  # Leave no partial line.
        finally:
            os.close(self._file)

    def _append(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._file, left) :]


def _open(path: Path) -> int:
    """Only its owner may read the file: it holds everything that clients send and receive."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise TraceUnusable(f"cannot write the trace {path}: it is not a file")
        if found.st_size:
            raise TraceUnusable(f"cannot write the trace {path}: it is not empty; name another file")
        os.fchmod(file, 0o600)
    except OSError as error:
        raise TraceUnusable(f"cannot write the trace {path}: {error.strerror or error}") from None
    return file


def _line(envelope: Envelope, data: bytes, now: int, answer: Answer, due_at: int) -> bytes:
    kind = msgspec.json.encode(envelope.kind)
    response = encode_response(envelope.kind, envelope.head.corr_id, answer.status, answer.data)
    undone = b',"undone":%d' % due_at if due_at <= now else b""
    return b'{"kind":%b,"now":%d,"req":%b,"res":%b%b}\n' % (kind, now, data, response, undone)


def _on_one_line(envelope: Envelope) -> bytes:
    """Return the data on one line, without the heads of actions. Raises one of :data:`UNWRITABLE`."""
    request = json.loads(bytes(envelope.data))
    actions = request.get("actions")
    for action in [request.get("action"), *(actions if isinstance(actions, list) else [])]:
        _drop_head(action)
    return json.dumps(request, separators=(",", ":"), allow_nan=False).encode()


def _drop_head(action: Any) -> None:
    """Empty the head, but keep the member: an action is an envelope."""
    if isinstance(action, dict) and "head" in action:
        action["head"] = {}
