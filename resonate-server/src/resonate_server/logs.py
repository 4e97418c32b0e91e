"""Logging: one line per event worth knowing, as readable text or as a JSON object.

Logged text may come from strangers (ids, groups, addresses), and must not pass for anything else: characters that
control a terminal, end a line or change the text direction are escaped, in the lines of libraries, too.
"""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from types import TracebackType
from typing import Literal, override

type _ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_STEERING = (
    "\x00-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029"  # line ends
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # text direction
    "\u200b-\u200d\u2060\ufeff"  # zero width
    "\ud800-\udfff"  # lone surrogates, which cannot be encoded
)
_steering = re.compile(f"[{_STEERING}]")


MAX_FILE_BYTES = 10_000_000


def configure_logging(level: str, style: Literal["text", "json"], file: str = "") -> None:
    """Log everything to standard output, or to ``file``; the level is a name such as ``info``.

    The file may be the one that standard output goes to, and then also has what the interpreter itself prints.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every encoding has every character
    handler = _file_handler(file) if file else logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.handleError = _complaint_of(handler)  # type: ignore[assignment, method-assign]
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    # aiohttp logs a traceback for each malformed request. Those are answered, and the app logs our own failures.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def _file_handler(file: str) -> logging.Handler:
    """At :data:`MAX_FILE_BYTES` the file is copied to one whose name ends in ``.1``, and truncated."""
    handler = RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=1, encoding="utf-8")
    handler.rotator = _copy_and_empty
    return handler


def _complaint_of(handler: logging.Handler) -> Callable[[logging.LogRecord], None]:
    """Return what to do with a line that cannot be written, as its reader has gone or the disk is full: say so once,
    without the traceback that the library prints for each line."""
    complained = False

    def complain(record: logging.LogRecord) -> None:
        nonlocal complained
        error = sys.exception()
        if not isinstance(error, OSError):
            logging.Handler.handleError(handler, record)
        elif not complained:
            complained = True
            with contextlib.suppress(OSError):
                os.write(2, f"resonate-server: cannot write the log: {error.strerror}\n".encode())
            if isinstance(error, BrokenPipeError):  # what is buffered would fail again at the end of the process
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return complain


def _copy_and_empty(file: str, old: str) -> None:
    """Copy instead of renaming: others write to the same file, or follow it. After a kill in between, the next call
    copies again. On a full disk the old lines make room for new ones."""
    with contextlib.suppress(OSError):
        shutil.copy(file, old)  # with its permissions
    os.truncate(file, 0)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("resonate_server").critical("uncaught exception", exc_info=(kind, error, trace))


class TextFormatter(logging.Formatter):
    """One line per record, with its time. A traceback follows, indented: none of its lines passes for a record."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _time(record)

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        return _steering.sub(_escape, super().formatMessage(record))

    @override
    def formatException(self, ei: _ExceptionInfo) -> str:
        return _indented(super().formatException(ei))

    @override
    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "logger", "message", "error"?}``; time in ISO 8601, UTC, ms."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _steering.sub(_escape_for_json, json.dumps(line, ensure_ascii=False, separators=(",", ":")))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _indented(text: str) -> str:
    return "\n".join("  " + _steering.sub(_escape, line) for line in text.split("\n"))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _escape_for_json(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
