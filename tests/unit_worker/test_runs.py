"""What the log tells of a run: one line when it begins, one when it has ended, and that one tells what it came to."""

import asyncio
import logging
import re

import pytest
from resonate.error import PlatformError, ServerError, Suspended
from resonate.send import TaskRef

from worker.runs import MAX_SHOWN_CHARACTERS, RunLog

BAR = TaskRef(id="a:1", version=2)


class Log:
    """A run log that told of one run: that of bar, for the task a:1 in its second attempt."""

    def __init__(self, records: pytest.LogCaptureFixture) -> None:
        self.records = records
        self.runs = RunLog()
        records.set_level(logging.INFO)
        self.runs.begin("bar", "a:1", BAR)

    def told(self) -> list[str]:
        """Since the last time; without the seconds of ends."""
        lines = [re.sub(r"seconds=\d+\.\d{3}  ", "", record.getMessage()) for record in self.records.records]
        self.records.clear()
        return lines


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    begun = Log(caplog)
    assert begun.told() == ["running function bar  promise=a:1  attempt=2"]
    return begun


def end(outcome: str) -> str:
    return f"ended function bar  promise=a:1  attempt=2  {outcome}"


def test_a_result_is_told_when_the_server_has_it(log: Log) -> None:
    log.runs.returned("a:1", 2, {"sum": 3})
    assert log.told() == []
    log.runs.fulfilled(BAR)
    assert log.told() == [end("result: {'sum': 3}")]


def test_the_seconds_are_those_of_the_function(log: Log) -> None:
    log.runs.returned("a:1", 2, 3)
    log.runs.fulfilled(BAR)
    assert re.search(r"  seconds=0\.\d{3}  result: 3$", log.records.records[0].getMessage())


@pytest.mark.parametrize("value", ["x" * 1_000_000, list(range(1_000_000)), {str(i): "x" * 100 for i in range(1000)}])
def test_a_large_result_is_shortened(log: Log, value: object) -> None:
    log.runs.returned("a:1", 2, value)
    log.runs.fulfilled(BAR)
    assert len(log.told()[0]) < MAX_SHOWN_CHARACTERS + 100


def test_an_error_is_told_with_its_message_and_where_it_was_raised(log: Log) -> None:
    error = ValueError("no number today")
    log.runs.raised("a:1", 2, error)
    log.runs.fulfilled(BAR)
    (record,) = log.records.records
    assert (record.levelno, record.exc_info) == (logging.ERROR, (ValueError, error, None))
    assert log.told() == [end("ValueError: no number today")]


def test_a_function_that_is_tried_again_ends_each_time(log: Log) -> None:
    log.runs.raised("a:1", 2, ValueError("no number today"))
    log.runs.begin("bar", "a:1", BAR)
    assert log.told() == [
        end("ValueError: no number today; it is tried again"),
        "running function bar  promise=a:1  attempt=2",
    ]


def test_a_suspended_function_tells_what_it_waits_for(log: Log) -> None:
    log.runs.raised("a:1", 2, Suspended())
    log.runs.suspended(BAR, ["a:1.1", "a:1.2"], goes_on=False)
    assert log.told() == [end("suspended, waits for a:1.1, a:1.2")]


def test_it_tells_so_too_if_that_is_there_already(log: Log) -> None:
    log.runs.raised("a:1", 2, Suspended())
    log.runs.suspended(BAR, ["a:1.1"], goes_on=True)
    assert log.told() == [end("suspended, waits for a:1.1, which is there already")]


def test_of_many_that_it_waits_for_it_tells_the_first(log: Log) -> None:
    log.runs.suspended(BAR, [f"a:1.{number}" for number in range(1, 100)], goes_on=False)
    assert log.told() == [end("suspended, waits for a:1.1, a:1.2, a:1.3, a:1.4, a:1.5 and 94 more")]


@pytest.mark.parametrize("status", [404, 409])
def test_a_result_that_comes_too_late_is_a_lost_lease(log: Log, status: int) -> None:
    log.runs.returned("a:1", 2, 3)
    log.runs.refused(BAR, status, "task a:1 is pending")
    log.runs.released(BAR)  # the SDK tries that as well
    assert log.told() == [end(f"lease lost, leaving the task to others (code={status}): task a:1 is pending")]


def test_what_is_given_back_has_a_reason_from_the_server(log: Log) -> None:
    log.runs.returned("a:1", 2, 3)
    log.runs.refused(BAR, 500, "disk full")
    assert log.told() == []
    log.runs.released(BAR)
    assert log.told() == [end("given back: disk full")]


def test_or_from_a_step_that_could_not_be_taken(log: Log) -> None:
    log.runs.raised("a:1", 2, PlatformError([ServerError(500, "disk full")]))
    log.runs.released(BAR)
    assert log.told() == [end("given back: server error (code=500): disk full")]


def test_or_none_that_anybody_knows(log: Log) -> None:
    log.runs.released(BAR)
    assert log.told() == [end("given back")]


def test_of_what_was_given_back_before_nothing_more_is_told(log: Log) -> None:
    log.runs.released(BAR)
    log.told()
    log.runs.released(BAR)
    assert log.told() == []


def test_the_reason_is_kept_for_the_server_until_it_is_told(log: Log) -> None:
    log.runs.refused(BAR, 500, "disk full")
    assert [log.runs.take_reason(BAR), log.runs.take_reason(BAR)] == ["disk full", ""]


def test_a_message_of_two_hundred_characters_is_whole_and_a_longer_one_is_cut(log: Log) -> None:
    whole, longer = "x" * MAX_SHOWN_CHARACTERS, "x" * (MAX_SHOWN_CHARACTERS + 1)
    log.runs.refused(BAR, 500, whole)
    log.runs.released(BAR)
    assert log.told() == [end(f"given back: {whole}")]
    log.runs.begin("bar", "a:1", BAR)
    log.told()
    log.runs.refused(BAR, 500, longer)
    log.runs.released(BAR)
    assert log.told() == [end(f"given back: {whole[1:]}…")]


@pytest.mark.parametrize(("count", "more"), [(5, ""), (6, " and 1 more")])
def test_up_to_five_that_it_waits_for_are_all_told(log: Log, count: int, more: str) -> None:
    log.runs.suspended(BAR, list("abcdef"[:count]), goes_on=False)
    assert log.told() == [end(f"suspended, waits for a, b, c, d, e{more}")]


def test_of_runs_that_nobody_told_of_nothing_is_said(log: Log) -> None:
    other = TaskRef(id="b:1", version=1)
    log.runs.returned("b:1", 1, 3)
    log.runs.raised("b:1", 1, ValueError("no number today"))
    log.runs.fulfilled(other)
    log.runs.released(other)
    log.runs.step_settled("b:1")
    assert log.told() == []


def test_a_worker_that_stops_tells_what_becomes_of_its_runs(log: Log) -> None:
    other = TaskRef(id="b:1", version=1)
    log.runs.begin("bar", "b:1", other)
    for id, attempt in (("a:1", 2), ("b:1", 1)):
        log.runs.raised(id, attempt, asyncio.CancelledError())
    log.told()
    log.runs.withdrawn(BAR)
    log.runs.abandoned()
    assert log.told() == [
        end("given back: the worker stops"),
        "ended function bar  promise=b:1  attempt=1  broken off: the worker stops, and the server does not answer",
    ]


def test_a_step_ends_when_its_result_is_stored(log: Log) -> None:
    log.runs.begin("work", "a:1.1", BAR)
    log.runs.returned("a:1.1", 2, None)
    log.told()
    log.runs.step_settled("a:1.1")
    assert log.told() == ["ended function work  promise=a:1.1  attempt=2  result: None"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (asyncio.CancelledError(), "the worker stops"),
        (PlatformError([ServerError(409, "late")]), "server error (code=409): late"),
    ],
)
def test_a_step_that_is_broken_off_ends_at_once(log: Log, error: BaseException, why: str) -> None:
    log.runs.begin("work", "a:1.1", BAR)
    log.told()
    log.runs.raised("a:1.1", 2, error)
    assert log.told() == [f"ended function work  promise=a:1.1  attempt=2  broken off: {why}"]


def test_a_step_whose_result_was_not_stored_ends_with_its_caller(log: Log) -> None:
    log.runs.begin("work", "a:1.1", BAR)
    log.runs.returned("a:1.1", 2, None)
    log.told()
    log.runs.refused(BAR, 409, "task a:1 is pending")
    lost = "lease lost, leaving the task to others (code=409): task a:1 is pending"
    assert log.told() == [end(lost), f"ended function work  promise=a:1.1  attempt=2  {lost}"]


def test_an_attempt_whose_lease_was_lost_unawares_is_not_taken_for_the_next_one(log: Log) -> None:
    again = TaskRef(id="a:1", version=3)
    log.runs.begin("bar", "a:1", again)
    log.told()
    log.runs.returned("a:1", 3, 3)
    log.runs.fulfilled(again)
    log.runs.returned("a:1", 2, 2)
    log.runs.refused(BAR, 409, "version differs")
    assert log.told() == [
        "ended function bar  promise=a:1  attempt=3  result: 3",
        end("lease lost, leaving the task to others (code=409): version differs"),
    ]


def test_what_is_told_is_forgotten(log: Log) -> None:
    log.runs.returned("a:1", 2, 3)
    log.runs.fulfilled(BAR)
    log.told()
    log.runs.fulfilled(BAR)
    log.runs.abandoned()
    assert log.told() == []
