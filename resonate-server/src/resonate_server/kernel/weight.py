"""Estimated sizes in bytes of records in an answer, for limits. Payloads count whether they were loaded or not."""

from typing import Any

from msgspec import UNSET

from resonate_server.kernel.model import Task, Unread
from resonate_server.protocol.answers import (
    ClaimData,
    FencedData,
    PreloadData,
    PromiseData,
    PromisePage,
    ScheduleData,
    SchedulePage,
)
from resonate_server.protocol.records import Promise, Schedule, Value

RECORD_BYTES = 200
"""Estimate for the member names and numbers of a record."""


def weight(promise: Promise) -> int:
    size = RECORD_BYTES + len(promise.id) + value_weight(promise.param) + value_weight(promise.value)
    for name, text in promise.tags.items():
        size += len(name) + len(text)
    return size


def schedule_weight(schedule: Schedule) -> int:
    texts = (schedule.id, schedule.promise_id, *schedule.promise_tags, *schedule.promise_tags.values())
    return RECORD_BYTES + sum(map(len, texts)) + value_weight(schedule.promise_param)


def row_weight(row: Promise | Task | Schedule) -> int:
    match row:
        case Promise():
            return weight(row)
        case Task():
            return RECORD_BYTES + len(row.id) + len(row.pid or "")
        case Schedule():
            return schedule_weight(row)


def value_weight(value: Value) -> int:
    """Cover both JSON and memory, where one non-ASCII character makes the whole string wide."""
    if isinstance(value, Unread):
        return value.size
    size = 0 if value.data is UNSET else _width(value.data)
    if value.headers is not UNSET:
        size += sum(map(_width, value.headers)) + sum(map(_width, value.headers.values()))
    return size


def answer_weight(data: Any) -> int:
    """Return the weight of an answer's data; 0 for kinds that are always small."""
    match data:
        case PromiseData(promise=promise):
            return weight(promise)
        case ClaimData(promise=promise, preload=preload):
            return weight(promise) + sum(map(weight, preload))
        case FencedData(action=action, preload=preload):
            return answer_weight(action.data) + sum(map(weight, preload))
        case PreloadData(preload=preload):
            return sum(map(weight, preload))
        case ScheduleData(schedule=schedule):
            return schedule_weight(schedule)
        case PromisePage(promises=promises):
            return sum(map(weight, promises))
        case SchedulePage(schedules=schedules):
            return sum(map(schedule_weight, schedules))
    return 0


def _width(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)
