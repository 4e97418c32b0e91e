"""How much one answer may hold: estimated sizes of records in bytes, pages of search results, and the limits of a
preload. Payloads count whether they were loaded or not."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import UNSET

from resonate_server.kernel.model import Task, Unread
from resonate_server.protocol.answers import (
    Answer,
    ClaimData,
    FencedData,
    PreloadData,
    PromiseData,
    PromisePage,
    ScheduleData,
    SchedulePage,
    TaskPage,
)
from resonate_server.protocol.records import EMPTY, Promise, Schedule, Tags, Value
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch

RECORD_BYTES = 200
"""Estimate for the member names and numbers of a record."""

MAX_PAGE_BYTES = 4 * 1_024 * 1_024
"""Total size of the rows of a page: 1,000 of 4 KiB each. A row larger than this gets a page of its own."""

MAX_PRELOAD = 256
"""Maximum number of promises sent along with a task. The SDK fetches the others one by one."""

MAX_PRELOAD_BYTES = 1_024 * 1_024
"""Their maximum total size: room for 256 steps of 4 KiB each."""


def weight(row: Promise | Task | Schedule) -> int:
    match row:
        case Promise(id=id, tags=tags, param=param, value=value):
            return RECORD_BYTES + len(id) + _total(tags) + value_weight(param) + value_weight(value)
        case Task(id=id, pid=pid):
            return RECORD_BYTES + len(id) + len(pid or "")
        case Schedule(id=id, promise_id=promise_id, promise_tags=tags, promise_param=param):
            return RECORD_BYTES + len(id) + len(promise_id) + _total(tags) + value_weight(param)


def _total(tags: Tags) -> int:
    return sum(map(len, tags)) + sum(map(len, tags.values()))


def value_weight(value: Value) -> int:
    """Cover both JSON and memory, where one non-ASCII character makes the whole string wide."""
    if value is EMPTY:
        return 0
    if isinstance(value, Unread):
        return value.size
    size = 0 if value.data is UNSET else _width(value.data)
    if value.headers is not UNSET:
        size += sum(map(_width, value.headers)) + sum(map(_width, value.headers.values()))
    return size


def answer_weight(data: Any) -> int:
    """Return the weight of an answer's data; 0 for kinds that are always small."""
    match data:
        case PromiseData(promise=row) | ScheduleData(schedule=row):
            return weight(row)
        case PreloadData(preload=rows) | PromisePage(promises=rows) | SchedulePage(schedules=rows):
            return sum(map(weight, rows))
        case ClaimData(promise=promise, preload=preload):
            return weight(promise) + sum(map(weight, preload))
        case FencedData(action=action):
            return answer_weight(action.data)
    return 0


def _width(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


def fitting(promises: Iterable[Promise]) -> Iterator[Promise]:
    """Yield the first of ``promises`` that fit into one answer. One too large is skipped; later ones may still fit."""
    places, room = MAX_PRELOAD, MAX_PRELOAD_BYTES
    for promise in promises:
        size = weight(promise)
        if places and size <= room:
            places -= 1
            room -= size
            yield promise


def is_read(promise: Promise) -> bool:
    """Return whether both payloads are loaded. They are not if they did not fit, or for promises that just settled."""
    return not (isinstance(promise.param, Unread) or isinstance(promise.value, Unread))


class Page:
    """The results of ``search`` in ascending order of id. Call :meth:`take` until it is full or no rows are left."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._rows: list[Any] = []
        self._room = MAX_PAGE_BYTES
        self.is_full = False
        """At least one more row was found, which belongs on the next page."""

    @property
    def is_empty(self) -> bool:
        return not self._rows

    @property
    def places(self) -> int:
        return self._search.limit - len(self._rows)

    def take(self, row: Promise | Task | Schedule) -> None:
        size = weight(row)
        self.is_full = not self.places or (bool(self._rows) and size > self._room)
        if not self.is_full:
            self._rows.append(row)
            self._room -= size

    def answer(self) -> Answer:
        cursor = self._rows[-1].id if self.is_full else UNSET
        match self._search:
            case PromiseSearch():
                return Answer(status=200, data=PromisePage(promises=self._rows, cursor=cursor))
            case TaskSearch():
                return Answer(status=200, data=TaskPage(tasks=[task.record() for task in self._rows], cursor=cursor))
            case ScheduleSearch():
                return Answer(status=200, data=SchedulePage(schedules=self._rows, cursor=cursor))
