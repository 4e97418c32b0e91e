"""One struct per request kind, with the members it takes (sections 3.1 to 3.3).

A struct holds only what the rules need; unknown members are ignored. All checks that need no state are made here and
raise, so that the rules can trust their input.
"""

import re
from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

from resonate_server.protocol.address import check_address
from resonate_server.protocol.errors import Malformed
from resonate_server.protocol.records import EMPTY, PromiseState, Tags, TaskState, Value

MAX_INTEGER = 2**63 - 1
"""Largest time or duration (ms): what a 64-bit database column holds."""

MAX_ID_CHARACTERS = 4_096
"""Ids are index keys and appear in log lines. The longest ids of SDKs (deep call trees) are far shorter."""

LINEAGE = ("resonate:origin", "resonate:parent", "resonate:branch", "resonate:prefix")
"""Tags that place a promise in a call tree. They determine what is preloaded, shown and kept with it, and under which
ids an SDK will create its calls."""

ANCESTORS = ("resonate:origin", "resonate:parent", "resonate:branch")
"""Tags that name the promise itself or one of its ancestors."""

MAX_TAGS_CHARACTERS = 65_536
"""Total size of a promise's tags, names included. They are searched and stored in the row; payloads take large data."""

SETTLEMENTS = (PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED)
"""States that a client may settle a promise with; only the deadline times it out."""

MAX_AWAITED = 10_000
"""Most promises that one suspension may name: they are read in one transaction, while all other requests wait."""

MAX_PATIENCE_MS = 1_000
"""Far shorter than any lease used in practice."""

_UNUSABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff"
"""Control characters and lone surrogates. SDKs send ids in an HTTP header, which cannot hold these, so nobody could
claim the task of such an id."""

_UNUSABLE_CHARACTER = re.compile(f"[{_UNUSABLE}]")

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS, pattern=r"\A[^\x00]*\Z")]
"""Id of something that may exist."""

NewId = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS, pattern=rf"\A[^{_UNUSABLE}]*\Z")]
"""Id of something that this request may create: a promise, a schedule, or the lease of a process."""

Text = Annotated[str, Meta(min_length=1)]
Millis = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
Ttl = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
Version = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
PageSize = Annotated[int, Meta(ge=1, le=1_000)]


class Request(Struct, frozen=True, rename="camel", gc=False):
    """Base of all kinds; ``kind`` is the dotted name on the wire."""

    kind: ClassVar[str]

    @property
    def ids(self) -> tuple[str, ...] | None:
        """All ids that the request names, without duplicates; ``None`` for kinds that range over all ids."""
        return None

    @property
    def relatives(self) -> tuple[str, ...]:
        """Ids in the :data:`LINEAGE` tags of what the request creates."""
        return ()


class RequestForOne(Request, frozen=True, rename="camel"):
    """Base of the kinds that name exactly one id."""

    id: Id

    @property
    def ids(self) -> tuple[str, ...] | None:
        return (self.id,)


def _relatives(tags: Tags) -> tuple[str, ...]:
    return tuple(tags[tag] for tag in LINEAGE if tag in tags)


def _check_tags(tags: Tags) -> None:
    """Raise :class:`Malformed` if the tags are too large, or nothing can be delivered to the target."""
    if sum(map(len, tags)) + sum(map(len, tags.values())) > MAX_TAGS_CHARACTERS:
        raise Malformed(f"the tags of a promise have at most {MAX_TAGS_CHARACTERS} characters together")
    for name in ANCESTORS:
        if len(tags.get(name, "")) > MAX_ID_CHARACTERS:
            raise Malformed(f"the tag {name} takes an id, which has at most {MAX_ID_CHARACTERS} characters")
    if "resonate:target" in tags:
        _check_address(tags["resonate:target"])


def is_below(id: str, ancestor: str) -> bool:
    """Return whether ``id`` is ``ancestor`` or a call below it. SDKs use a colon as separator, older ones a dot."""
    return id == ancestor or id.startswith((f"{ancestor}:", f"{ancestor}."))


def _check_lineage(id: str, tags: Tags) -> None:
    """Raise :class:`Malformed` if ``tags`` put the promise into a tree to which its id does not belong (section 3.1).

    Only SDKs such as 0.7.4 send a prefix, and only with a prefix are their deviations tolerated. A detached call may
    be beside its parent instead of below it, if both are in one tree or below one prefix; the root of a tree of its own
    may be anywhere.
    """
    origin, prefix = tags.get("resonate:origin"), tags.get("resonate:prefix")
    if prefix is not None and ":" in prefix and not is_below(id, prefix):
        raise Malformed("a resonate:prefix with ':' must be the promise's id, or begin it, followed by ':' or '.'")
    for name in ANCESTORS:
        ancestor = tags.get(name)
        if ancestor is None or is_below(id, ancestor):
            continue
        is_beside = any(root and is_below(id, root) and is_below(ancestor, root) for root in (origin, prefix))
        is_root = prefix is not None and origin == id
        if name != "resonate:parent" or not (is_beside or is_root):
            raise Malformed(f"the tag {name} must be the promise's id, or begin it, followed by ':' or '.'")
    if ":" in id and origin == id and prefix is None:
        raise Malformed("the root of a tree, which is its own resonate:origin, has no ':' in its id")


def _check_address(text: str) -> None:
    """Raise :class:`Malformed` unless messages can be delivered to the address."""
    if len(text) > MAX_ID_CHARACTERS:
        raise Malformed(f"an address has at most {MAX_ID_CHARACTERS} characters")
    if _UNUSABLE_CHARACTER.search(text):
        raise Malformed("an address has no control characters, unless they are percent-encoded")
    check_address(text)


# --- promise.* ------------------------------------------------------------------------------------------------------


class PromiseGet(RequestForOne, frozen=True):
    kind = "promise.get"


class PromiseCreate(RequestForOne, frozen=True, rename="camel"):
    kind = "promise.create"

    id: NewId
    timeout_at: Millis
    param: Value = EMPTY
    tags: Tags = field(default_factory=dict)

    @property
    def relatives(self) -> tuple[str, ...]:
        return _relatives(self.tags)

    def __post_init__(self) -> None:
        _check_tags(self.tags)
        _check_lineage(self.id, self.tags)
        delay = self.tags.get("resonate:delay")
        if delay is not None:
            self._check_delay(delay)

    def _check_delay(self, delay: str) -> None:
        if not (delay.isascii() and delay.isdigit() and len(delay) < 20):
            raise Malformed("the tag resonate:delay takes a time in ms since the epoch, as decimal digits")
        if "resonate:target" not in self.tags:
            raise Malformed("the tag resonate:delay needs a resonate:target to delay the delivery to")
        if int(delay) >= self.timeout_at:
            raise Malformed("the tag resonate:delay must lie before timeoutAt")


class PromiseSettle(RequestForOne, frozen=True):
    kind = "promise.settle"

    state: PromiseState
    value: Value = EMPTY

    def __post_init__(self) -> None:
        if self.state not in SETTLEMENTS:
            raise Malformed(f"state must be one of {', '.join(SETTLEMENTS)}, not {self.state}")


class PromiseRegisterCallback(Request, frozen=True):
    kind = "promise.register_callback"

    awaited: Id
    awaiter: Id

    @property
    def ids(self) -> tuple[str, ...] | None:
        return (self.awaited, self.awaiter)

    def __post_init__(self) -> None:
        if self.awaited == self.awaiter:
            raise Malformed("a promise cannot await itself: awaited and awaiter are the same")


class PromiseRegisterListener(Request, frozen=True):
    kind = "promise.register_listener"

    awaited: Id
    address: Text

    @property
    def ids(self) -> tuple[str, ...] | None:
        return (self.awaited,)

    def __post_init__(self) -> None:
        _check_address(self.address)


class PromiseSearch(Request, frozen=True):
    kind = "promise.search"

    state: PromiseState | None = None
    tags: Tags = field(default_factory=dict)
    limit: PageSize = 100
    cursor: str | None = None


# --- task.* ---------------------------------------------------------------------------------------------------------


class Action[T](Struct, frozen=True, gc=False):
    """A request inside a request. Its head is never read, and its kind only by ``task.fence``."""

    data: T


class TaskGet(RequestForOne, frozen=True):
    kind = "task.get"


class TaskCreate(Request, frozen=True):
    kind = "task.create"

    pid: NewId
    ttl: Ttl
    action: Action[PromiseCreate]

    @property
    def ids(self) -> tuple[str, ...] | None:
        return self.action.data.ids

    @property
    def relatives(self) -> tuple[str, ...]:
        return self.action.data.relatives

    def __post_init__(self) -> None:
        tags = self.action.data.tags
        if "resonate:target" not in tags:
            raise Malformed("task.create needs the tag resonate:target: a promise without it has no task")
        if "resonate:delay" in tags:
            raise Malformed("task.create runs the promise here and now: it takes no resonate:delay")
        if tags.get("resonate:timer") == "true":
            raise Malformed("task.create runs the promise: it takes no resonate:timer, which has nothing to run")


class TaskAcquire(RequestForOne, frozen=True):
    kind = "task.acquire"

    version: Version
    pid: NewId
    ttl: Ttl


class TaskRelease(RequestForOne, frozen=True):
    """``reason``: why the attempt failed, for people; an extension of the protocol."""

    kind = "task.release"

    version: Version
    reason: str | None = None


class TaskFulfill(RequestForOne, frozen=True):
    kind = "task.fulfill"

    version: Version
    action: Action[PromiseSettle]

    def __post_init__(self) -> None:
        if self.action.data.id != self.id:
            raise Malformed("task.fulfill settles the task's own promise: the action's id must be the task's")


class SuspendAction(Struct, frozen=True, gc=False):
    awaited: Id
    awaiter: Id


class TaskSuspend(Request, frozen=True):
    """``patience``: how long (ms) to wait for an awaited promise to settle before deciding; a protocol extension."""

    kind = "task.suspend"

    id: Id
    version: Version
    actions: Annotated[list[Action[SuspendAction]], Meta(min_length=1, max_length=MAX_AWAITED)]
    patience: Annotated[int, Meta(ge=0, le=MAX_PATIENCE_MS)] = 0

    @property
    def ids(self) -> tuple[str, ...] | None:
        return (self.id, *self.awaited)

    def __post_init__(self) -> None:
        for action in self.actions:
            if action.data.awaiter != self.id:
                raise Malformed("task.suspend registers the task itself: every awaiter must be the task's id")
            if action.data.awaited == self.id:
                raise Malformed("a task cannot await its own promise")
        if len(set(self.awaited)) < len(self.actions):
            raise Malformed("task.suspend names each awaited promise once")

    @property
    def awaited(self) -> list[str]:
        return [action.data.awaited for action in self.actions]


class FenceCreate(Struct, frozen=True, gc=False, tag_field="kind", tag="promise.create"):
    data: PromiseCreate


class FenceSettle(Struct, frozen=True, gc=False, tag_field="kind", tag="promise.settle"):
    data: PromiseSettle


class TaskFence(Request, frozen=True):
    kind = "task.fence"

    id: Id
    version: Version
    action: FenceCreate | FenceSettle

    @property
    def ids(self) -> tuple[str, ...] | None:
        return (self.id, self.action.data.id)

    @property
    def relatives(self) -> tuple[str, ...]:
        return self.action.data.relatives

    def __post_init__(self) -> None:
        if self.action.data.id == self.id:
            raise Malformed("task.fence cannot act on the task's own promise: use task.fulfill")
        if isinstance(self.action, FenceCreate):
            self._check_tree(self.action.data)

    def _check_tree(self, create: PromiseCreate) -> None:
        """A call belongs to its caller's tree, unless it is the root of another one, as a detached call may be."""
        origin = create.tags.get("resonate:origin")
        if origin is not None and origin != create.id and not is_below(self.id, origin):
            raise Malformed("task.fence acts within the task's tree: its id must be below the action's resonate:origin")


class TaskRef(Struct, frozen=True, gc=False):
    id: Id
    version: Version


class TaskHeartbeat(Request, frozen=True):
    kind = "task.heartbeat"

    pid: Id
    tasks: list[TaskRef]

    @property
    def ids(self) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(task.id for task in self.tasks))


class TaskHalt(RequestForOne, frozen=True):
    kind = "task.halt"


class TaskContinue(RequestForOne, frozen=True):
    kind = "task.continue"


class TaskSearch(Request, frozen=True):
    kind = "task.search"

    state: TaskState | None = None
    limit: PageSize = 100
    cursor: str | None = None


# --- schedule.* -----------------------------------------------------------------------------------------------------


class ScheduleGet(RequestForOne, frozen=True):
    kind = "schedule.get"


class ScheduleCreate(Request, frozen=True, rename="camel"):
    kind = "schedule.create"

    id: NewId
    cron: Text
    promise_id: NewId
    promise_timeout: Millis
    promise_param: Value = EMPTY
    promise_tags: Tags = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...] | None:
        """Its own id, and the beginning of its promises' ids."""
        return (self.id, self.promise_id.replace("{{.id}}", self.id))

    @property
    def relatives(self) -> tuple[str, ...]:
        return _relatives(self.promise_tags)

    def __post_init__(self) -> None:
        if ":" in self.id:
            raise Malformed("the id of a schedule has no ':': its promises are roots of trees")
        _check_tags(self.promise_tags)
        if "resonate:delay" in self.promise_tags:
            raise Malformed("promiseTags cannot hold resonate:delay: it is one instant, and a schedule has many")


class ScheduleDelete(RequestForOne, frozen=True):
    kind = "schedule.delete"


class ScheduleSearch(Request, frozen=True):
    kind = "schedule.search"

    tags: Tags = field(default_factory=dict)
    limit: PageSize = 10
    cursor: str | None = None


type Search = PromiseSearch | TaskSearch | ScheduleSearch

# --- debug.* --------------------------------------------------------------------------------------------------------


class DebugStart(Request, frozen=True):
    kind = "debug.start"


class DebugStop(Request, frozen=True):
    kind = "debug.stop"


class DebugReset(Request, frozen=True):
    kind = "debug.reset"


class DebugTick(Request, frozen=True):
    kind = "debug.tick"

    time: Millis


class DebugSnap(Request, frozen=True):
    kind = "debug.snap"


KINDS: dict[str, type[Request]] = {
    kind.kind: kind for base in (Request, RequestForOne) for kind in base.__subclasses__() if kind is not RequestForOne
}
"""All of the above, by name."""
