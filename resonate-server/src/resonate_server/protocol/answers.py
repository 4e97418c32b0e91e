"""The data of successful answers, one struct per shape (sections 3.1 and 3.2)."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from resonate_server.protocol.records import Promise, Schedule, TaskRecord


class Answer(Struct, frozen=True):
    """The answer to a request. ``data`` is one of the structs below, or a sentence if ``status`` is 400 or more.

    ``weight``: approximate size in bytes of a large answer; 0 for others.
    """

    status: int
    data: Any
    weight: int = 0


class Nothing(Struct, frozen=True):
    pass


class PromiseData(Struct, frozen=True):
    promise: Promise


class TaskData(Struct, frozen=True):
    task: TaskRecord


class ClaimData(Struct, frozen=True):
    task: TaskRecord
    promise: Promise
    preload: list[Promise]


class PreloadData(Struct, frozen=True):
    preload: list[Promise]


class FencedData(Struct, frozen=True):
    """``action`` is a complete inner envelope, because typed SDKs check it. They require the ``preload``, too, which is
    always empty: the claim has given it."""

    action: Any
    preload: tuple[()] = ()


class ScheduleData(Struct, frozen=True):
    schedule: Schedule


class SchedulePage(Struct, frozen=True):
    schedules: list[Schedule]
    cursor: str | UnsetType = UNSET


class PromisePage(Struct, frozen=True):
    promises: list[Promise]
    cursor: str | UnsetType = UNSET


class TaskPage(Struct, frozen=True):
    tasks: list[TaskRecord]
    cursor: str | UnsetType = UNSET
