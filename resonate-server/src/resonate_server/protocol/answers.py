"""The data of successful answers, one struct per shape (sections 3.1 and 3.2)."""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from resonate_server.protocol.records import Promise, Schedule, TaskRecord


class Answer(Struct, frozen=True, gc=False):
    """The answer to a request. ``data`` is one of the structs below, or a sentence if ``status`` is 400 or more.

    ``weight``: approximate size in bytes of a large answer; 0 for others.
    """

    status: int
    data: Any
    weight: int = 0


class Nothing(Struct, frozen=True, gc=False):
    pass


class PromiseData(Struct, frozen=True, gc=False):
    promise: Promise


class TaskData(Struct, frozen=True, gc=False):
    task: TaskRecord


class ClaimData(Struct, frozen=True, gc=False):
    task: TaskRecord
    promise: Promise
    preload: list[Promise]


class PreloadData(Struct, frozen=True, gc=False):
    preload: list[Promise]


class FencedData(Struct, frozen=True, gc=False):
    """``action`` is a complete inner envelope, because typed SDKs check it. They require the ``preload``, too, which is
    always empty: the claim has given it."""

    action: Any
    preload: tuple[()] = ()


class ScheduleData(Struct, frozen=True, gc=False):
    schedule: Schedule


class SchedulePage(Struct, frozen=True, gc=False):
    schedules: list[Schedule]
    cursor: str | UnsetType = UNSET


class PromisePage(Struct, frozen=True, gc=False):
    promises: list[Promise]
    cursor: str | UnsetType = UNSET


class TaskPage(Struct, frozen=True, gc=False):
    tasks: list[TaskRecord]
    cursor: str | UnsetType = UNSET
