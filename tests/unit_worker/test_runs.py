"""What the log says about a run: one line when it begins, and one with its outcome when it has ended."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from resonate.error import ApplicationError, PlatformError, ServerError, Suspended
from resonate.send import TaskRef

from worker.runs import MAX_REASON_CHARACTERS, MAX_SHOWN_CHARACTERS, RunLog

BAR, NEXT, OTHER = TaskRef(id="a:1", version=2), TaskRef(id="a:1", version=3), TaskRef(id="b:1", version=1)
FAILED = ValueError("no number today")
DISK_FULL = PlatformError([ServerError(500, "disk full")])
LOST = "lease lost, leaving the task to others (code=409): late"
WHOLE = "x" * MAX_REASON_CHARACTERS

type Act = Callable[[RunLog], object]


@pytest.fixture
def runs(caplog: pytest.LogCaptureFixture) -> RunLog:
    """A log that has reported one run: bar, for the task a:1 in its second attempt."""
    caplog.set_level(logging.INFO)
    runs = RunLog()
    runs.begin("bar", "a:1", BAR)
    assert caplog.messages == ["running function bar  promise=a:1  attempt=2"]
    caplog.clear()
    return runs


def begin(task: TaskRef, function: str = "bar", id: str = "") -> Act:
    return lambda runs: runs.begin(function, id or task.id, task)


def returned(value: Any = 3, id: str = "a:1", attempt: int = 2) -> Act:
    return lambda runs: runs.returned(id, attempt, value)


def raised(error: BaseException, id: str = "a:1", attempt: int = 2) -> Act:
    return lambda runs: runs.raised(id, attempt, error)


def fulfilled(task: TaskRef = BAR) -> Act:
    return lambda runs: runs.fulfilled(task)


def ends(text: str, task: TaskRef = BAR) -> Act:
    return lambda runs: runs.ends(task, text)


def given_back(task: TaskRef) -> Act:
    return lambda runs: runs.given_back(task, "disk full")


def suspended(*awaited: str, goes_on: bool = False) -> Act:
    return lambda runs: runs.suspended(BAR, awaited, goes_on=goes_on)


def settled(id: str) -> Act:
    return lambda runs: runs.step_settled(id)


def abandoned(runs: RunLog) -> None:
    runs.abandoned()


STEP: tuple[Act, ...] = (begin(BAR, "work", "a:1.1"),)
# Events, and the lines they give: for bar alone, or with "work: " for its step, or "3: " and "b: " for other runs.
STORIES: dict[str, tuple[tuple[Act, ...], list[str]]] = {
    "a result that the server does not have yet": ((returned(),), []),
    "a result": ((returned({"sum": 3}), fulfilled()), ["result: {'sum': 3}"]),
    "an error": ((raised(FAILED), fulfilled()), ["ValueError: no number today"]),
    "logged twice by its function": ((begin(BAR),), []),
    "tried again": ((raised(FAILED), begin(BAR)), ["ValueError: no number today; retrying", "begins"]),
    "suspended": ((raised(Suspended()), suspended("a", "b")), ["suspended, waits for a, b"]),
    "goes on at once": ((suspended("a", goes_on=True),), ["suspended, waits for a; continues at once"]),
    "returned before its calls ended": (
        (returned(), suspended("a")),
        ["suspended, waits for a; it returned without awaiting this: is an `await` missing?"],
    ),
    "failed before its calls ended": ((raised(FAILED), suspended("a")), ["suspended, waits for a"]),
    "waits for five": ((suspended(*"abcde"),), ["suspended, waits for a, b, c, d, e"]),
    "waits for more": ((suspended(*"abcdef"),), ["suspended, waits for a, b, c, d, e and 1 more"]),
    "ended twice": ((returned(), ends("lease lost"), ends("given back")), ["lease lost"]),
    "a long reason": ((ends(f"{WHOLE}xy"),), [f"{WHOLE[1:]}…"]),
    "the worker stops": (
        (raised(asyncio.CancelledError()), ends("given back: the worker stops")),
        ["given back: the worker stops"],
    ),
    "it stops, and the server is away": (
        (begin(OTHER), raised(asyncio.CancelledError(), "b:1", 1), ends("given back: the worker stops"), abandoned),
        [
            "b: begins",
            "given back: the worker stops",
            "b: broken off: the worker stops, and the server does not answer",
        ],
    ),
    "runs that nobody told of": (
        (
            returned(3, "b:1", 1),
            raised(FAILED, "b:1", 1),
            fulfilled(OTHER),
            ends("given back", OTHER),
            settled("b:1"),
        ),
        [],
    ),
    "a step": ((*STEP, returned(None, "a:1.1"), settled("a:1.1")), ["work: begins", "work: result: None"]),
    "a step broken off by the end": (
        (*STEP, raised(asyncio.CancelledError(), "a:1.1")),
        ["work: begins", "work: broken off: the worker stops"],
    ),
    "a step broken off by the server": (
        (*STEP, raised(DISK_FULL, "a:1.1")),
        ["work: begins", "work: broken off: server error (code=500): disk full"],
    ),
    "a step whose result was not stored": (
        (*STEP, returned(None, "a:1.1"), ends(LOST)),
        ["work: begins", LOST, f"work: {LOST}"],
    ),
    "a lease lost unawares is not taken for the next one": (
        (begin(NEXT), returned(3, attempt=3), fulfilled(NEXT), returned(2), ends(LOST)),
        ["3: begins", "3: result: 3", LOST],
    ),
    "given back": ((given_back(BAR),), ["given back: disk full"]),
    "what is told is forgotten": ((returned(), fulfilled(), fulfilled(), abandoned), ["result: 3"]),
}
RUNS = {
    "": "bar  promise=a:1  attempt=2",
    "work: ": "work  promise=a:1.1  attempt=2",
    "3: ": "bar  promise=a:1  attempt=3",
    "b: ": "bar  promise=b:1  attempt=1",
}


def line(short: str) -> str:
    """Return the full log line, without the seconds."""
    who = next((name for name in RUNS if name and short.startswith(name)), "")
    what = short.removeprefix(who)
    return f"running function {RUNS[who]}" if what == "begins" else f"ended function {RUNS[who]}  {what}"


@pytest.mark.parametrize("story", STORIES)
def test_the_outcome_of_a_run_is_logged(runs: RunLog, caplog: pytest.LogCaptureFixture, story: str) -> None:
    acts, told = STORIES[story]
    for act in acts:
        act(runs)
    assert [re.sub(r"seconds=\d+\.\d{3}  ", "", message) for message in caplog.messages] == [
        line(text) for text in told
    ]


def test_the_seconds_are_those_of_the_function(runs: RunLog, caplog: pytest.LogCaptureFixture) -> None:
    returned()(runs)
    fulfilled()(runs)
    assert re.search(r"  seconds=0\.\d{3}  result: 3$", caplog.messages[0])


def test_an_error_is_logged_with_the_place_where_it_was_raised(runs: RunLog, caplog: pytest.LogCaptureFixture) -> None:
    raised(FAILED)(runs)
    fulfilled()(runs)
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.ERROR, (ValueError, FAILED, None))


@pytest.mark.parametrize("goes_on", [True, False], ids=["handled", "not handled"])
def test_an_error_of_a_step_is_an_error_only_if_its_function_fails_too(
    runs: RunLog, caplog: pytest.LogCaptureFixture, goes_on: bool
) -> None:
    def work() -> None:
        raise ValueError("sold out")

    runs.begin("work", "a:1.1", BAR)
    with pytest.raises(ValueError, match="sold out") as error:
        work()
    runs.raised("a:1.1", 2, error.value, error.tb)
    runs.step_settled("a:1.1")
    (returned() if goes_on else raised(ApplicationError("sold out")))(runs)
    fulfilled()(runs)

    (_, step, function), step_text = caplog.records, caplog.messages[1]
    assert (step.levelno, step.exc_info) == (logging.WARNING, None)
    assert re.search(r"  ValueError: sold out \(test_runs.py, line \d+, in work\)$", step_text)
    assert ("in work" in logging.Formatter().format(function)) is not goes_on, "the traceback"


def test_of_a_run_that_its_function_does_not_log_only_failures_are(
    runs: RunLog, caplog: pytest.LogCaptureFixture
) -> None:
    for act in (returned(), raised(FAILED, "b:1", 1), raised(Suspended(), "b:1", 1), given_back(OTHER)):
        runs.track("baz", "b:1", OTHER)
        act(runs)
        runs.ends(OTHER, "suspended, waits for c")
    runs.track("baz", "b:1", OTHER)
    raised(FAILED, "b:1", 1)(runs)
    fulfilled(OTHER)(runs)
    given_back(OTHER)(runs)
    assert [re.sub(r"  seconds=\S+", "", message) for message in caplog.messages] == [
        "ended function baz  promise=b:1  attempt=1  given back: disk full",
        "ended function baz  promise=b:1  attempt=1  ValueError: no number today",
        "a call was given back: disk full  promise=b:1  attempt=1",
    ]


@pytest.mark.parametrize("value", ["x" * 1_000_000, list(range(1_000_000)), {str(i): "x" * 100 for i in range(1000)}])
def test_a_large_result_is_shortened(runs: RunLog, caplog: pytest.LogCaptureFixture, value: object) -> None:
    returned(value)(runs)
    fulfilled()(runs)
    assert len(caplog.messages[0]) < MAX_SHOWN_CHARACTERS + 100


def test_the_reason_is_kept_until_it_is_sent_to_the_server(runs: RunLog) -> None:
    runs.failed(BAR, "disk full")
    assert [runs.take_reason(BAR), runs.take_reason(BAR)] == ["disk full", ""]
