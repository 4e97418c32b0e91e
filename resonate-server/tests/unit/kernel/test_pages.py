"""Pages of search results: at most the limit, and not too many bytes (section 3.1)."""

from typing import Any

import pytest
from msgspec import UNSET, UnsetType
from unit.driver import value
from unit.rows import promise, schedule, task

from resonate_server.kernel.pages import MAX_PAGE_BYTES, Page
from resonate_server.kernel.weight import row_weight
from resonate_server.protocol.answers import Answer, PromisePage, SchedulePage, TaskPage
from resonate_server.protocol.records import Promise
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch

LARGE = value("x" * (MAX_PAGE_BYTES // 2))
TOO_LARGE = value("x" * (2 * MAX_PAGE_BYTES))


A, B, C = map(promise, "abc")
JUST_FITS = promise("b", param=value("x" * (MAX_PAGE_BYTES - 2 * row_weight(A))))

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


FILLING = "x" * MAX_PAGE_BYTES


@pytest.mark.parametrize(
    ("search", "rows", "member"),
    [
        (TaskSearch(), [task("a" + FILLING), task("b" + FILLING)], "tasks"),
        (ScheduleSearch(), [schedule("a", tags={"t": FILLING}), schedule("b", tags={"t": FILLING})], "schedules"),
    ],
)
def test_pages_of_tasks_and_schedules_end_likewise(search: Search, rows: list[Any], member: str) -> None:
    page = Page(search)
    for row in rows:
        page.take(row)
    assert page.is_full
    assert [row.id[0] for row in getattr(page.answer().data, member)] == ["a"]


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
