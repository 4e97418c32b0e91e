"""Estimates of the size of values, rows and answers in bytes: each part counts once."""

from typing import Any

import pytest
from unit.rows import promise, task

from resonate_server.kernel.model import Unread
from resonate_server.kernel.weight import RECORD_BYTES, answer_weight, row_weight, value_weight
from resonate_server.protocol.answers import (
    ClaimData,
    FencedData,
    Nothing,
    PreloadData,
    PromiseData,
    PromisePage,
    ScheduleData,
    SchedulePage,
    TaskData,
)
from resonate_server.protocol.envelope import ResponseEnvelope, ResponseHead
from resonate_server.protocol.records import Schedule, Value

PROMISE = promise("12", param=Value(data="345"), value=Value(data="4567"), tags={"12345": "678901"})
PROMISE_BYTES = RECORD_BYTES + 2 + 3 + 4 + 5 + 6
SMALL = promise("1")
SMALL_BYTES = RECORD_BYTES + 1
SCHEDULE = Schedule("123", "* * * * *", "1234", 5, Value(data="12345"), {"1": "12"}, created_at=0, next_run_at=0)
SCHEDULE_BYTES = RECORD_BYTES + 3 + 4 + 5 + 1 + 2
INNER = ResponseEnvelope(
    kind="promise.create", head=ResponseHead(corr_id="", status=200), data=PromiseData(promise=PROMISE)
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value(), 0),
        (Value(data=""), 0),
        (Value(data="abc"), 3),
        (Value(data="abü"), 12),
        (Value(headers={}), 0),
        (Value(headers={"a": "bc", "d": "e"}), 5),
        (Value(headers={"ü": "bc"}, data="d"), 7),
        (Unread(size=17), 17),
    ],
)
def test_value(value: Value, expected: int) -> None:
    assert value_weight(value) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (PROMISE, PROMISE_BYTES),
        (SMALL, SMALL_BYTES),
        (task("12"), RECORD_BYTES + 2),
        (task("12", pid="345"), RECORD_BYTES + 5),
        (SCHEDULE, SCHEDULE_BYTES),
    ],
)
def test_row(row: Any, expected: int) -> None:
    assert row_weight(row) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PromiseData(promise=PROMISE), PROMISE_BYTES),
        (ClaimData(task("1").record(), PROMISE, [SMALL, SMALL]), PROMISE_BYTES + 2 * SMALL_BYTES),
        (FencedData(INNER, [SMALL]), PROMISE_BYTES + SMALL_BYTES),
        (PreloadData([SMALL, PROMISE]), SMALL_BYTES + PROMISE_BYTES),
        (ScheduleData(SCHEDULE), SCHEDULE_BYTES),
        (PromisePage([SMALL, PROMISE]), SMALL_BYTES + PROMISE_BYTES),
        (SchedulePage([SCHEDULE, SCHEDULE]), 2 * SCHEDULE_BYTES),
        (TaskData(task("1").report()), 0),
        (Nothing(), 0),
        ("a sentence", 0),
    ],
)
def test_answer(data: Any, expected: int) -> None:
    assert answer_weight(data) == expected
