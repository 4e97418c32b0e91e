"""Which records are shown and how; no record can forge a line; the log file stays small."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from resonate.error import FunctionNotFoundError, PlatformError, ServerError

from worker.logs import MAX_FILE_BYTES, MAX_RECORD_CHARACTERS, _Formatter
from worker.seams import RETURNED_EARLY, filter_sdk

from .group import launched

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 "


def record(
    name: str, level: int, message: str, *arguments: object, error: BaseException | None = None
) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, level, __file__, 1, message, arguments, info)


def shown(record: logging.LogRecord) -> str:
    """Return the entry without its time."""
    return _Formatter().format(record).partition(" ")[2]


def raised(text: str) -> ValueError:
    """Return an error that our own code has raised."""
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.fixture
def lines(sdk: None, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:  # noqa: ARG001
    """Return the lines of what the SDK has said, if it is shown."""
    caplog.set_level(logging.INFO)
    filter_sdk()
    return lambda: [shown(each) for each in caplog.records]


FAILED = "core: execution failed, releasing task task_id=%s"


def test_of_the_sdk_s_failures_those_are_logged_that_no_end_of_a_run_tells(lines: Callable[[], list[str]]) -> None:
    core = logging.getLogger("resonate.core")
    core.info("core: task acquired")
    for error in (
        ServerError(500, "disk full"),
        FunctionNotFoundError("bar", 1),
        PlatformError([ServerError(404, "not found")]),
        ServerError(409, "task a:1 is pending"),
    ):
        core.error(FAILED, "a:1", exc_info=error)
    core.warning(f"{RETURNED_EARLY} -- either a")
    assert lines() == [f"ERROR: {FAILED % 'a:1'}: server error (code=500): disk full"]


@pytest.mark.parametrize(
    ("told", "entry"),
    [
        (record("worker", logging.INFO, "running function %s", "bar"), "running function bar"),
        (record("worker", logging.WARNING, "odd"), "WARNING: odd"),
    ],
)
def test_a_record_is_one_plain_line(told: logging.LogRecord, entry: str) -> None:
    assert shown(told) == entry


def test_an_error_from_a_programs_own_code_is_shown_with_its_traceback() -> None:
    entry = shown(record("worker.runs", logging.ERROR, "it failed", error=raised("no number today")))
    assert entry.startswith("ERROR: it failed\n  Traceback")
    assert entry.endswith("ValueError: no number today")


def test_each_line_starts_with_its_time() -> None:
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
def test_neither_an_id_nor_the_text_of_an_exception_can_forge_a_line(text: str) -> None:
    line = shown(record("worker", logging.INFO, "running function %s  promise=%s", "bar", text))
    assert line.isprintable()
    assert line.startswith("running function bar  promise=a\\")
    first, *more = shown(record("worker.runs", logging.ERROR, "it failed", error=raised(text))).split("\n")
    assert first == "ERROR: it failed"
    assert len(more) >= 3
    assert all(line.isprintable() and line.startswith("  ") for line in more)


PROGRAM = """
import threading, warnings
from worker import configure_logging

configure_logging()
{}
"""


type Run = Callable[..., str]


@pytest.fixture
def printed(tmp_path: Path) -> Run:
    """Run a program with that code and environment, and return all its output."""

    def run(code: str, **environment: str) -> str:
        process = launched(tmp_path, PROGRAM.format(code), **environment)
        process.wait()
        return process.output()

    return run


def test_messages_of_the_interpreter_have_a_time_as_well(printed: Run) -> None:
    code = "warnings.warn('old'); threading.Thread(target=lambda: 1 / 0).start(); raise ValueError('why')"
    lines = [line for line in printed(code).splitlines() if not line.startswith("  ")]
    assert re.match(TIME + r"WARNING: .*program-\d+.py:6: UserWarning: old", lines[0])
    assert [re.fullmatch(TIME + "CRITICAL: uncaught exception", line) is not None for line in lines[1:]] == [True] * 2


def test_an_interrupted_program_ends_without_a_word(printed: Run) -> None:
    assert printed("raise KeyboardInterrupt") == ""


def logging_program(lines: int) -> str:
    return f"import logging\nfor number in range({lines}): logging.info('line %d', number)\nprint('printed')"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file as large as may be; the next line goes to an empty one."""
    log = tmp_path / "log"
    log.write_text("x" * (MAX_FILE_BYTES - 1) + "\n")
    return log


def test_a_large_file_is_rotated_and_keeps_its_inode_for_other_writers_and_followers(printed: Run, log: Path) -> None:
    inode = log.stat().st_ino
    with log.open("a") as shell, log.open() as follower:
        follower.read()
        printed(logging_program(2), LOG_FILE=str(log))
        shell.write("from elsewhere\n")
        shell.flush()
        follower.seek(0)
        assert re.fullmatch(f"{TIME}line 0\n{TIME}line 1\nfrom elsewhere\n", follower.read())
    assert log.stat().st_ino == inode
    assert log.with_name("log.1").read_bytes()[-2:] == b"x\n"


def test_a_rotation_that_was_killed_is_repeated(printed: Run, log: Path) -> None:
    killing = "import os, shutil\nshutil.copyfile = lambda *names: os.kill(os.getpid(), 9)\n"
    printed(killing + logging_program(1), LOG_FILE=str(log))
    assert log.stat().st_size == MAX_FILE_BYTES
    printed(logging_program(1), LOG_FILE=str(log))
    assert log.with_name("log.1").stat().st_size == MAX_FILE_BYTES
    assert log.read_text().endswith("line 0\n")


def test_on_a_full_disk_old_lines_are_dropped_for_new_ones(printed: Run, log: Path) -> None:
    full = "import shutil\ndef copyfile(*names): raise OSError(28, 'No space left')\nshutil.copyfile = copyfile\n"
    printed(full + logging_program(1), LOG_FILE=str(log))
    assert re.fullmatch(f"{TIME}line 0\n", log.read_text())


def test_records_from_info_up_go_to_stdout(printed: Run) -> None:
    code = """
import logging, sys
logging.getLogger("bar").debug("small talk")
logging.getLogger("bar").info("connected")
assert logging.getLogger().handlers[0].stream is sys.stdout
"""
    assert re.fullmatch(f"{TIME}connected\n", printed(code))


def test_what_a_server_answers_does_not_fill_the_log() -> None:
    """A text of the maximum length is whole; a longer one keeps both ends."""
    half = "a" * (MAX_RECORD_CHARACTERS // 2)
    assert shown(record("worker", logging.INFO, 2 * half)) == 2 * half
    assert shown(record("worker", logging.INFO, 2 * half + "b")) == f"{half} … {half[1:]}b"
    failed = record("resonate.core", logging.ERROR, "it failed", error=ServerError(500, "<html>" * 1_000_000))
    assert len(shown(failed)) < MAX_RECORD_CHARACTERS + 100
