"""A worker's log, for people: few lines, each self-contained and with its time.

Ids and messages are untrusted text: they cannot begin a line or move the cursor.
"""

import logging
import os
import shutil
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Any, Final, override

logger = logging.getLogger("worker")

MAX_FILE_BYTES: Final = 10_000_000
MAX_RECORD_CHARACTERS: Final = 20_000
"""Of a message, and of a traceback. Whatever a server answers may become part of one."""


def configure_logging() -> None:
    """Send all lines of the program, and those of the SDK that matter, to stdout at once, or to the file LOG_FILE.

    That should be the file that stdout and stderr go to, so that it also has what the interpreter itself prints.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stdout)
    if file := os.environ.get("LOG_FILE"):
        try:
            handler = RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=1)
        except OSError as error:
            raise SystemExit(f"LOG_FILE names a file that cannot be written: {error}") from error
        handler.rotator = _copy_and_empty
    handler.setFormatter(_Formatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    sys.excepthook = lambda *error: _log_uncaught(error)
    threading.excepthook = lambda uncaught: _log_uncaught(uncaught[:3])


def _copy_and_empty(file: str, old: str) -> None:
    """Rotate by copying rather than renaming: other programs write to the same file, or follow it.

    If the process is killed in between, no line is lost: the file is copied again at the next start. On a full disk,
    old lines give way to new ones.
    """
    with suppress(OSError):
        shutil.copyfile(file, old)
    os.truncate(file, 0)


def _log_uncaught(error: Any) -> None:
    if not issubclass(error[0], KeyboardInterrupt):
        logger.critical("uncaught exception", exc_info=error)


class _Formatter(logging.Formatter):
    """Plain lines, with the level from WARNING up. Tracebacks are indented, and only for errors of our own code."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        is_by_sdk = record.name.startswith("resonate.")
        reason = f": {record.exc_info[1]}" if is_by_sdk and record.exc_info else ""
        lines = [f"{time} {level}{printable(_limited(record.getMessage() + reason))}"]
        if record.exc_info and not is_by_sdk:
            # The text of an exception is untrusted, too: a line of it could be taken for one of ours.
            lines += [f"  {printable(line)}" for line in _limited(self.formatException(record.exc_info)).split("\n")]
        return "\n".join(lines)


def printable(text: str) -> str:
    """Escape control and direction characters, line ends and everything else that is invisible."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _limited(text: str) -> str:
    half = MAX_RECORD_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} … {text[-half:]}"
