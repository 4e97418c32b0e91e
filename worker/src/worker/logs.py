"""What a worker tells the person who watches it: few lines, each readable by itself."""

import logging
import sys
from collections.abc import Callable
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
    """Plain lines; warnings and worse say so. Tracebacks only for what the services' own code raised."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        if _is_raised_by_user(record):
            return "ERROR: " + super().format(record)
        if _is_lost_lease(record):
            return f"lease lost, leaving the task to others ({_error(record)})"
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        if record.name.startswith(_SDK) and record.exc_info:
            return f"{level}{record.getMessage()}: {_error(record)}"
        return level + super().format(record)


def _is_raised_by_user(record: logging.LogRecord) -> bool:
    return record.name == _SDK_CORE and str(record.msg).startswith(_USER_FUNCTION_RAISED)


def _is_lost_lease(record: logging.LogRecord) -> bool:
    """A 409 during an execution: the server was away, or this worker frozen, for longer than its lease."""
    return record.name == _SDK_CORE and "code=409" in str(_error(record))


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
