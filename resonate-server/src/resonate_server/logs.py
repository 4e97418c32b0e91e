"""Log lines: one per thing a person wants to know, as readable text or as one JSON object each.

What is logged may hold what strangers wrote (ids, groups, addresses), and must not look like anything else: characters
that steer a terminal, end a line or turn the direction of writing are written as escapes, in the lines of libraries as
well.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, override

type _ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_STEERING = (
    "\x00-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029"  # ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of writing
    "\u200b-\u200d\u2060\ufeff"  # no width
    "\ud800-\udfff"  # halves of characters, which no output takes
)
_steering = re.compile(f"[{_STEERING}]")


def configure_logging(level: str, style: Literal["text", "json"]) -> None:
    """Everything goes to standard output; the level is a name such as ``info``."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # It logs every malformed request with a traceback; those are answered, and our own failures are logged by the app.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class TextFormatter(logging.Formatter):
    """One line each. A traceback follows below it, indented, so that no line of it can be taken for another entry."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")

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
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _steering.sub(_escape_for_json, json.dumps(line, ensure_ascii=False, separators=(",", ":")))


def _indented(text: str) -> str:
    return "\n".join("  " + _steering.sub(_escape, line) for line in text.split("\n"))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _escape_for_json(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
