"""What a worker tells the person who watches it: few lines, each readable by itself, and each with its time.

Ids and messages are anybody's text: nothing in them begins a line or moves the cursor.
"""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import override

from resonate.context import Context

logger = logging.getLogger("worker")

_SDK = "resonate"
_SDK_CORE = "resonate.core"
_USER_FUNCTION_RAISED = "core: user function raised"
_EXECUTION_FAILED = "core: execution failed"


def log_run(ctx: Context) -> None:
    """Print that a function runs, and for which promise."""
    logger.info("running function %s  promise=%s", ctx.info.func_name, ctx.info.id)


def configure_logging(connected: Callable[[], bool]) -> None:
    """Send the worker's lines, and those of the SDK that matter, to stdout at once.

    `connected` tells whether the server is known to be reachable.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter())
    handler.addFilter(_SdkFilter(connected))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    # Only at this level does the SDK say that a function raised; the filter drops the rest.
    logging.getLogger(_SDK_CORE).setLevel(logging.DEBUG)


def silence_sdk() -> None:
    """Stop listening to the SDK: a worker that ends cuts its work short, and every cut would be reported."""
    for name in (_SDK, _SDK_CORE):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class _SdkFilter(logging.Filter):
    """Keep from the SDK's records what a person wants to know."""

    def __init__(self, connected: Callable[[], bool]) -> None:
        super().__init__()
        self._connected = connected

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_SDK) or _is_raised_by_user(record):
            return True
        if record.name == "resonate.connections.http" and not self._connected():
            return False  # each waiting request fails again and again; the stream has said so already
        if _is_lost_lease(record):
            return str(record.msg).startswith(_EXECUTION_FAILED)  # said twice
        return record.levelno >= logging.WARNING


class _Formatter(logging.Formatter):
    """Plain lines; warnings and worse say so. Tracebacks only for what the services' own code raised, and indented."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        lines = [f"{_time(record)} {printable(_told(record))}"]
        if record.exc_info and (_is_raised_by_user(record) or not record.name.startswith(_SDK)):
            # The text of an exception is anybody's, too: a line of it could be taken for one of ours.
            lines += [f"  {printable(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


def printable(text: str) -> str:
    """With escapes for control and direction characters, for line ends and for what else cannot be seen."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _told(record: logging.LogRecord) -> str:
    """A record in one line, without its traceback."""
    if _is_raised_by_user(record):
        return f"ERROR: {record.getMessage()}"
    if _is_lost_lease(record):
        return f"lease lost, leaving the task to others ({_error(record)})"
    level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
    reason = f": {_error(record)}" if record.name.startswith(_SDK) and record.exc_info else ""
    return f"{level}{record.getMessage()}{reason}"


def _is_raised_by_user(record: logging.LogRecord) -> bool:
    return record.name == _SDK_CORE and str(record.msg).startswith(_USER_FUNCTION_RAISED)


def _is_lost_lease(record: logging.LogRecord) -> bool:
    """A 409 during an execution: the server was away, or this worker frozen, for longer than its lease."""
    return record.name == _SDK_CORE and "code=409" in str(_error(record))


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
