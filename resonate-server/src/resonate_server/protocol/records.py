"""Records in their wire format: value, promise, task, schedule.

Absent members are omitted, never ``null``, and required ones are always present: typed SDKs reject a record otherwise.
All times are milliseconds since the Unix epoch, UTC.
"""

from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType

from resonate_server.protocol.words import times

type Tags = dict[str, str]


class PromiseState(StrEnum):
    """Settled states are final."""

    PENDING = "pending"
    RESOLVED = "resolved"
    REJECTED = "rejected"
    CANCELED = "rejected_canceled"
    TIMEDOUT = "rejected_timedout"


class TaskState(StrEnum):
    """What a task waits for. A task is fulfilled exactly when its promise is settled."""

    PENDING = "pending"  # for a worker
    ACQUIRED = "acquired"  # for the worker that holds its lease
    SUSPENDED = "suspended"  # for the promises it awaits
    HALTED = "halted"  # for an operator
    FULFILLED = "fulfilled"  # for nothing


class Role(StrEnum):
    """What a promise stands for, to people."""

    CALL = "call"  # has a task
    TIMER = "timer"
    STEP = "step"  # runs inside the call above it
    PROMISE = "promise"  # is settled by somebody else


class Value(Struct, frozen=True, omit_defaults=True, gc=False):
    """An opaque payload: string headers and one string, base64 by convention. The server never looks inside."""

    headers: dict[str, str] | UnsetType = UNSET
    data: str | UnsetType = UNSET


EMPTY = Value()


class Promise(Struct, frozen=True, rename="camel", gc=False):
    """A durable promise. ``settled_at`` is unset if and only if it is pending."""

    id: str
    state: PromiseState
    param: Value
    value: Value
    tags: Tags
    timeout_at: int
    created_at: int
    settled_at: int | UnsetType = UNSET

    @property
    def target(self) -> str | None:
        """Delivery address of the promise's task; a promise without one has no task."""
        return self.tags.get("resonate:target")

    @property
    def is_external(self) -> bool:
        """Whether executions other than its creator may await it. If so, its deadline sets an alarm."""
        return is_external(self.tags)

    @property
    def is_timer(self) -> bool:
        """A timer resolves at its deadline, while other promises time out."""
        return self.tags.get("resonate:timer") == "true"

    @property
    def role(self) -> Role:
        if self.is_timer:
            return Role.TIMER
        if self.target is not None:
            return Role.CALL
        return Role.STEP if self.is_below and not self.is_external else Role.PROMISE

    @property
    def delay_until(self) -> int:
        """Time (ms) before which the task is not dispatched; 0 for no delay."""
        return int(self.tags.get("resonate:delay", "0"))

    @property
    def branch(self) -> str | None:
        """Id of the nearest dispatched ancestor: local steps of one execution share it."""
        return self.tags.get("resonate:branch")

    @property
    def origin(self) -> str | None:
        """Id of the root of the call tree; a root names itself."""
        return self.tags.get("resonate:origin")

    @property
    def parent(self) -> str | None:
        """Id of the execution that created this promise."""
        return self.tags.get("resonate:parent")

    @property
    def is_below(self) -> bool:
        """Whether another execution created it."""
        return self.parent not in (None, self.id)


def is_external(tags: Tags) -> bool:
    """``resonate:scope=global`` counts, too: TypeScript SDK 0.11.5 marks awaitable promises only so (section 2.2)."""
    return (
        "resonate:target" in tags
        or tags.get("resonate:timer") == "true"
        or tags.get("resonate:external") == "true"
        or tags.get("resonate:scope") == "global"
    )


class Schedule(Struct, frozen=True, rename="camel", gc=False):
    """A template from which a promise is created at each match of ``cron`` (in UTC)."""

    id: str
    cron: str
    promise_id: str
    promise_timeout: int
    promise_param: Value
    promise_tags: Tags
    created_at: int
    next_run_at: int
    last_run_at: int | UnsetType = UNSET

    @property
    def target(self) -> str | None:
        """Delivery address of its promises' tasks; without one its promises have no tasks."""
        return self.promise_tags.get("resonate:target")

    @property
    def next_promise_id(self) -> str:
        """Id of the promise that the next run creates."""
        return self.promise_id.replace("{{.id}}", self.id).replace("{{.timestamp}}", str(self.next_run_at))


class TaskRecord(Struct, frozen=True, gc=False):
    """A task as clients see it; ``ttl`` (ms) and ``pid`` only while it is acquired.

    Beyond the official protocol, ``task.get`` reports of a pending task how often in a row it was offered and not
    claimed (``unclaimed``), how often in a row it was claimed and released without progress (``releases``), and the
    ``reason`` given with the last release.
    """

    id: str
    state: TaskState
    version: int
    resumes: int
    ttl: int | UnsetType = UNSET
    pid: str | UnsetType = UNSET
    unclaimed: int | UnsetType = UNSET
    releases: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET

    @property
    def trouble(self) -> str:
        """Describe what is wrong with the task, for people; empty if nothing is.

        A single release without a reason is normal: a worker was shut down.
        """
        if self.unclaimed:
            return f"handed out {times(self.unclaimed)}, claimed by nobody"
        why = f": {self.reason}" if self.reason else ""
        if self.releases and self.releases > 1:
            return f"claimed {times(self.releases)}, given back each time{why}"
        return f"given back{why}" if why else ""
