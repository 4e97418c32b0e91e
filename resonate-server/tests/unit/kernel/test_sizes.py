"""Sizes of values, rows and answers in bytes, in which each part counts once; and pages of search results."""

from typing import Any

import pytest
from msgspec import UNSET, UnsetType
from unit.driver import value
from unit.rows import promise, schedule, task

from resonate_server.kernel.model import Unread
from resonate_server.kernel.sizes import MAX_PAGE_BYTES, RECORD_BYTES, Page, answer_weight, value_weight, weight
from resonate_server.protocol.answers import (
    Answer,
    ClaimData,
    FencedData,
    Nothing,
    PreloadData,
    PromiseData,
    PromisePage,
    ScheduleData,
    SchedulePage,
    TaskData,
    TaskPage,
)
from resonate_server.protocol.envelope import ResponseEnvelope, ResponseHead
from resonate_server.protocol.records import Promise, Schedule, Value
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch

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
    assert weight(row) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PromiseData(promise=PROMISE), PROMISE_BYTES),
        (ClaimData(task("1").record(), PROMISE, [SMALL, SMALL]), PROMISE_BYTES + 2 * SMALL_BYTES),
        (FencedData(INNER), PROMISE_BYTES),
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


# --- pages ----------------------------------------------------------------------------------------------------------

LARGE = value("x" * (MAX_PAGE_BYTES // 2))
TOO_LARGE = value("x" * (2 * MAX_PAGE_BYTES))


A, B, C = map(promise, "abc")
JUST_FITS = promise("b", param=value("x" * (MAX_PAGE_BYTES - 2 * weight(A))))

PAGES: dict[str, tuple[int, list[Promise], list[str], str | UnsetType]] = {
    "all matches if they fit": (2, [A, B], ["a", "b"], UNSET),
    "no more than the limit, and a cursor because there are more": (2, [A, B, C], ["a", "b"], "b"),
    "no more than so many bytes": (
        9, [promise("a", param=LARGE), B, promise("c", value=LARGE), promise("d")], ["a", "b"], "b"
    ),
    "a single match that is too large": (9, [promise("a", param=TOO_LARGE), B], ["a"], "a"),
    "the last match, which is too large": (9, [promise("a", param=TOO_LARGE)], ["a"], UNSET),
    "a match that just fits": (9, [A, JUST_FITS], ["a", "b"], UNSET),
    "no match that is a byte too large": (9, [promise("aa"), JUST_FITS], ["aa"], "aa"),
}  # fmt: skip
"""The limit, the matches, and what the page holds of them with its cursor."""


@pytest.mark.parametrize(("limit", "matches", "shown", "cursor"), PAGES.values(), ids=PAGES)
def test_a_page_holds(limit: int, matches: list[Promise], shown: list[str], cursor: str | UnsetType) -> None:
    page = Page(PromiseSearch(limit=limit))
    for row in matches:
        page.take(row)
        if page.is_full:
            break
    data = page.answer().data
    assert ([row.id for row in data.promises], data.cursor) == (shown, cursor)


@pytest.mark.parametrize(
    ("search", "rows", "shown"),
    [
        (PromiseSearch(limit=2), list(map(promise, "abc")), PromisePage([promise("a"), promise("b")], "b")),
        (TaskSearch(limit=2), list(map(task, "abc")), TaskPage([task("a").record(), task("b").record()], "b")),
        (ScheduleSearch(limit=2), list(map(schedule, "abc")), SchedulePage([schedule("a"), schedule("b")], "b")),
    ],
)
def test_the_answer_to_each_kind_of_search(search: Search, rows: list[Any], shown: object) -> None:
    page = Page(search)
    for row in rows:
        page.take(row)
    assert page.answer() == Answer(status=200, data=shown)
