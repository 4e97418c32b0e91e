"""Log lines: one per thing a person wants to know, as readable text or as one JSON object each."""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec


def configure_logging(level: str, style: Literal["text", "json"]) -> None:
    """Everything goes to standard output; the level is a name such as ``info``."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if style == "json" else _text_formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # It logs every malformed request with a traceback; those are answered, and our own failures are logged by the app.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def _text_formatter() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "logger", "message", "error"?}``; time in ISO 8601, UTC, ms."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
