"""Which of the SDK's records a person sees, and how."""

import logging

import pytest
from resonate.error import PlatformError, ServerError

from worker.logs import _Formatter, _SdkFilter


def shown(record: logging.LogRecord, *, connected: bool = True) -> str | None:
    return _Formatter().format(record) if _SdkFilter(lambda: connected).filter(record) else None


def record(
    name: str, level: int, message: str, *arguments: object, error: BaseException | None = None
) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord(name, level, __file__, 1, message, arguments, info)


def core(message: str, error: BaseException) -> logging.LogRecord:
    return record("resonate.core", logging.ERROR, message, "a:1", error=error)


def test_the_workers_own_lines_are_plain() -> None:
    assert shown(record("worker", logging.INFO, "running function %s", "bar")) == "running function bar"
    assert shown(record("worker", logging.WARNING, "odd")) == "WARNING: odd"


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_the_sdk_keeps_its_small_talk(level: int) -> None:
    assert shown(record("resonate.core", level, "core: task acquired")) is None


def test_failing_requests_are_told_only_while_the_server_seems_to_be_there() -> None:
    failing = record("resonate.connections.http", logging.WARNING, "HTTP send failed, retrying")
    assert shown(failing, connected=True) == "WARNING: HTTP send failed, retrying"
    assert shown(failing, connected=False) is None


def test_a_function_that_raised_is_told_with_its_traceback() -> None:
    try:
        raise ValueError("no number today")
    except ValueError as caught:
        raised = record("resonate.core", logging.DEBUG, "core: user function raised %s", "ValueError")
        raised.exc_info = (ValueError, caught, caught.__traceback__)
    text = shown(raised)
    assert text is not None
    assert text.startswith("ERROR: core: user function raised ValueError\nTraceback")
    assert text.endswith("ValueError: no number today")


def test_an_error_of_the_sdk_is_one_line() -> None:
    failed = core("core: execution failed, releasing task task_id=%s", ServerError(500, "disk full"))
    assert shown(failed) == (
        "ERROR: core: execution failed, releasing task task_id=a:1: server error (code=500): disk full"
    )


def test_a_lost_lease_is_no_error_and_told_once() -> None:
    error = PlatformError([ServerError(409, "task a:1 is pending")])
    text = shown(core("core: execution failed, releasing task task_id=%s", error))
    assert text is not None
    assert text.startswith("lease lost, leaving the task to others")
    assert shown(core("core: failed to release task after error task_id=%s", error)) is None
