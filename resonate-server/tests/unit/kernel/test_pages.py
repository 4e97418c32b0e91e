"""Pages of search results: at most the limit, and not too many bytes (section 3.1)."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from msgspec import UNSET, UnsetType
from unit.driver import value
from unit.rows import promise, schedule, task

from resonate_server.kernel.model import Task
from resonate_server.kernel.pages import MAX_PAGE_BYTES, Page
from resonate_server.kernel.weight import row_weight
from resonate_server.protocol.answers import Answer, PromisePage, SchedulePage, TaskPage
from resonate_server.protocol.records import Promise, Schedule
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch

LARGE = value("x" * (MAX_PAGE_BYTES // 2))
TOO_LARGE = value("x" * (2 * MAX_PAGE_BYTES))


def page_of(search: PromiseSearch, rows: Iterable[Promise | Task | Schedule]) -> tuple[list[str], str | UnsetType]:
    page = Page(search)
    for row in rows:
        page.take(row)
        if page.is_full:
            break
    data = page.answer().data
    return [row.id for row in data.promises], data.cursor


def test_a_page_holds_all_matches_if_they_fit() -> None:
    assert page_of(PromiseSearch(limit=2), [promise("a"), promise("b")]) == (["a", "b"], UNSET)


def test_a_cursor_means_that_there_are_more() -> None:
    assert page_of(PromiseSearch(limit=2), [promise("a"), promise("b"), promise("c")]) == (["a", "b"], "b")


def test_a_page_ends_before_it_has_too_many_bytes() -> None:
    rows = [promise("a", param=LARGE), promise("b"), promise("c", value=LARGE), promise("d")]
    assert page_of(PromiseSearch(), rows) == (["a", "b"], "b")


def test_a_single_match_that_is_too_large_gets_its_own_page() -> None:
    rows = [promise("a", param=TOO_LARGE), promise("b")]
    assert page_of(PromiseSearch(), rows) == (["a"], "a")
    assert page_of(PromiseSearch(), rows[:1]) == (["a"], UNSET)


def large_task(id: str) -> Task:
    return task(id + "x" * MAX_PAGE_BYTES)


def large_schedule(id: str) -> Schedule:
    return schedule(id, tags={"t": "x" * MAX_PAGE_BYTES})


@pytest.mark.parametrize(
    ("search", "make", "member"),
    [(TaskSearch(), large_task, "tasks"), (ScheduleSearch(), large_schedule, "schedules")],
)
def test_pages_of_tasks_and_schedules_end_likewise(
    search: TaskSearch | ScheduleSearch, make: Callable[[str], Task | Schedule], member: str
) -> None:
    page = Page(search)
    page.take(make("a"))
    page.take(make("b"))
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


def test_a_match_that_just_fits_belongs_to_the_page() -> None:
    small, rest = promise("a"), promise("b", param=value("x" * (MAX_PAGE_BYTES - 2 * row_weight(promise("a")))))
    assert page_of(PromiseSearch(), [small, rest]) == (["a", "b"], UNSET)
    assert page_of(PromiseSearch(), [promise("aa"), rest]) == (["aa"], "aa")
