"""What a worker tells the person who watches it: few lines, each readable by itself, and each with its time.

Ids and messages are anybody's text: nothing in them begins a line or moves the cursor.
"""

import contextlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from types import TracebackType
from typing import Final, override

from resonate.context import Context
from resonate.error import PlatformError, ServerError

from worker.runs import LEASE_IS_GONE
from worker.seams import runs_of, task_of

logger = logging.getLogger("worker")

MAX_FILE_BYTES: Final = 10_000_000
MAX_TRACEBACK_CHARACTERS: Final = 20_000

_SDK = "resonate"


def log_run(ctx: Context) -> None:
    """Tell in the log that a function runs, and, once it has ended, what it came to."""
    runs_of(ctx).begin(ctx.info.func_name, ctx.info.id, task_of(ctx))


def configure_logging() -> None:
    """Send all lines of the program, and those of the SDK that matter, to stdout at once, or to the file LOG_FILE.

    The file is the one that stdout and stderr go to: what the interpreter itself prints stands in it, too.
    """
    handler = _handler(os.environ.get("LOG_FILE", ""))
    handler.setFormatter(_Formatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda uncaught: _log_uncaught(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)


def filter_sdk(connected: Callable[[], bool]) -> None:
    """`connected` tells whether the server is known to be reachable."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_SdkFilter(connected))


def silence_sdk() -> None:
    """Stop listening to the SDK and asyncio: a worker that ends cuts its work short, and each cut would be reported."""
    for name in (_SDK, "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _handler(file: str) -> logging.Handler:
    if not file:
        return logging.StreamHandler(sys.stdout)
    try:
        handler = RotatingFileHandler(file, maxBytes=MAX_FILE_BYTES, backupCount=1)
    except OSError as error:
        raise SystemExit(f"LOG_FILE names a file that cannot be written: {error}") from error
    handler.rotator = _copy_and_empty
    return handler


def _copy_and_empty(file: str, old: str) -> None:
    """Instead of a new name: others write to the same file, or follow it, and stay with it.

    Whatever is killed in between, no line is lost: the file is copied again at the next start. On a full disk the old
    lines give way to new ones.
    """
    with contextlib.suppress(OSError):
        shutil.copyfile(file, old)
    os.truncate(file, 0)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        logger.critical("uncaught exception", exc_info=error and (kind, error, trace))


class _SdkFilter(logging.Filter):
    """Keep from the SDK's records what a person wants to know."""

    def __init__(self, connected: Callable[[], bool]) -> None:
        super().__init__()
        self._connected = connected

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_SDK):
            return True
        if record.name == "resonate.connections.http" and not self._connected():
            return False  # each waiting request fails again and again; the stream has said so already
        return record.levelno >= logging.WARNING and not _is_told_by_the_end_of_a_run(_error(record))


class _Formatter(logging.Formatter):
    """Plain lines; warnings and worse say so. Tracebacks only for what the services' own code raised, and indented."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        lines = [f"{_time(record)} {printable(_told(record))}"]
        if record.exc_info and not record.name.startswith(_SDK):
            # The text of an exception is anybody's, too: a line of it could be taken for one of ours.
            lines += [f"  {printable(line)}" for line in _limited(self.formatException(record.exc_info)).split("\n")]
        return "\n".join(lines)


def printable(text: str) -> str:
    """With escapes for control and direction characters, for line ends and for what else cannot be seen."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _limited(traceback: str) -> str:
    if len(traceback) <= MAX_TRACEBACK_CHARACTERS:
        return traceback
    half = MAX_TRACEBACK_CHARACTERS // 2
    return f"{traceback[:half]}\n…\n{traceback[-half:]}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _told(record: logging.LogRecord) -> str:
    """A record in one line, without its traceback."""
    level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
    reason = f": {_error(record)}" if record.name.startswith(_SDK) and record.exc_info else ""
    return f"{level}{record.getMessage()}{reason}"


def _is_told_by_the_end_of_a_run(error: BaseException | None) -> bool:
    """A step that failed, or a lease that is lost."""
    return isinstance(error, PlatformError) or (isinstance(error, ServerError) and error.code in LEASE_IS_GONE)


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
