"""Pages of search results (protocol section 3), limited in rows and in bytes."""

from typing import Any

from msgspec import UNSET

from resonate_server.kernel.model import Task
from resonate_server.kernel.weight import row_weight
from resonate_server.protocol.answers import Answer, PromisePage, SchedulePage, TaskPage
from resonate_server.protocol.records import Promise, Schedule
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch

MAX_PAGE_BYTES = 4 * 1_024 * 1_024
"""Total size of the rows of a page: 1,000 of 4 KiB each. A row larger than this gets a page of its own."""


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
        size = row_weight(row)
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
