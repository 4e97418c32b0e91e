"""Which of the SDK's records a person sees, and how; and that nothing in a record is taken for a line of its own."""

import logging
import re

import pytest
from resonate.error import PlatformError, ServerError

from worker.logs import _Formatter, _SdkFilter


def shown(record: logging.LogRecord, *, connected: bool = True) -> str | None:
    """Without the time."""
    return _Formatter().format(record).partition(" ")[2] if _SdkFilter(lambda: connected).filter(record) else None


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
    assert text.startswith("ERROR: core: user function raised ValueError\n  Traceback")
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


def test_each_line_begins_with_its_time() -> None:
    running = record("worker", logging.INFO, "running function %s  promise=%s", "bar", "a:1")
    running.created = 1795634401.123
    assert _Formatter().format(running) == "2026-11-25T19:20:01.123+00:00 running function bar  promise=a:1"


HOSTILE = {
    "line": "a\nrunning function baz  promise=b",
    "return": "a\r\nrunning function baz  promise=b",
    "colour": "a\x1b[31m\x1b[2J",
    "C1": "a\x9b31m\x85b",
    "line separators": "a\u2028b\u2029c\x0bd\x0ce",
    "direction": "a\u202eb\u2066c",
    "surrogate": "a\ud800",
    "delete": "a\x7f\x08\x00",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_id_is_told_in_the_line_that_tells_it(text: str) -> None:
    line = shown(record("worker", logging.INFO, "running function %s  promise=%s", "bar", text))
    assert line is not None
    assert line.isprintable()
    assert line.startswith("running function bar  promise=a\\")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_so_is_what_a_server_says_of_it(text: str) -> None:
    for status in (409, 500):
        line = shown(core("core: execution failed, releasing task task_id=%s", ServerError(status, text)))
        assert line is not None
        assert line.isprintable()


@pytest.mark.parametrize("name", ["worker", "resonate.core"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_text_of_an_exception_begins_no_line(text: str, name: str) -> None:
    try:
        raise ValueError(text)
    except ValueError as caught:
        raised = record(name, logging.ERROR, "core: user function raised %s", text)
        raised.exc_info = (ValueError, caught, caught.__traceback__)
    first, *more = _Formatter().format(raised).split("\n")
    assert re.match(r"\S+ ERROR: core: user function raised a", first)
    assert len(more) >= 3
    for line in (first, *more):
        assert line.isprintable()
    assert all(line.startswith("  ") for line in more)
