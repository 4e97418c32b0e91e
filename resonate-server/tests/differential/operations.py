"""Random operations, each decoded from one number: requests of every kind over a few colliding ids, and time steps.

One number per operation keeps the generator fast and a sequence easy to shorten: every part of a sequence is a valid
sequence. What depends on the current state (a task's version, the time) is filled in when the operation is run, so
that most requests name the right version.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from resonate_server.protocol.requests import is_below

START = 1_700_000_000_000
"""The time at which every sequence begins, in ms since the epoch."""

BITS = 24
"""Size of one operation's number."""

GOLDEN = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: multiplying by it scatters the bits of a number."""

IDS = ("a", "b", "a:2", "a:1", "é", "b.1", "a.1", "b:é")
PIDS = ("pid-1", "pid-2")
TTLS = (100, 5_000, 60_000, 60_000)
TARGETS = (
    None,
    "poll://any@workers",
    "poll://any@workers",
    "poll://any@workers/pid-1",
    "poll://uni@others/pid-1",
    "http://127.0.0.1:9/x",
)
ADDRESSES = ("poll://uni@callers/1", "poll://any@callers")
SETTLEMENTS = ("resolved", "rejected", "rejected_canceled")
LIFETIMES = (3_600_000, 3_600_000, 60_000, 60_000, 5_000, 1_000, 50, -5)
"""From now to the deadline, in ms."""
PAUSES = (1, 20, 60, 500, 1_000, 6_000, 31_000)
VALUES: tuple[dict[str, Any], ...] = ({}, {"data": "eA=="}, {"headers": {"h": "1"}, "data": ""})
TEMPLATES = ("{{.id}}-{{.timestamp}}", "a", "fired.{{.timestamp}}")
LONG_CORR_IDS = ("0b5c1f2e-0000-4000-8000-000000000001", "0b5c1f2e-0000-4000-8000-000000000002")
"""Few, so that claims are repeated; long enough to count as unique (section 9, item 10)."""

type VersionOf = Callable[[str], int]


class Request(Struct, frozen=True):
    """``data`` may hold :class:`Relative` versions."""

    kind: str
    data: dict[str, Any]
    corr_id: str | None = None

    def data_for(self, version_of: VersionOf) -> dict[str, Any]:
        """Return the data with the versions of one server filled in."""
        concrete: dict[str, Any] = _concrete(self.data, version_of)
        return concrete

    @property
    def relative(self) -> "Relative | None":
        version = self.data.get("version")
        return version if isinstance(version, Relative) else None


class Wait(Struct, frozen=True):
    """Time passes, and the server does not notice."""

    ms: int


class Tick(Struct, frozen=True):
    """The server does what is due."""


type Operation = Request | Wait | Tick | None


class Relative(Struct, frozen=True):
    """The version of task ``id``, off by ``off``."""

    id: str
    off: int

    def of(self, version: int) -> int:
        return version + (self.off if version + self.off >= 0 else 1)


class Scene(Struct, frozen=True):
    """What the next operation may build on: the time in ms, the states of promises and tasks, and awaited promises."""

    now: int
    promises: dict[str, str]
    tasks: dict[str, str]
    awaited: tuple[str, ...]

    def unused(self) -> tuple[str, ...]:
        return tuple(id for id in IDS if id not in self.promises)


class Choices:
    """Read choices from a number as digits, lowest first. Once it is used up, read digits derived from it."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._more = number * GOLDEN % 2**64 >> 16

    def one[T](self, options: tuple[T, ...]) -> T:
        if self._left < len(options):
            self._left, self._more = self._more, 0
        self._left, index = divmod(self._left, len(options))
        return options[index]

    def some(self, options: tuple[str, ...]) -> list[str]:
        """Pick one to three, possibly the same twice."""
        return [self.one(options) for _ in range(1 + self.one((0, 1, 2)))]

    def task(self, scene: Scene, state: str) -> str:
        """Mostly pick a task in ``state``, if there is any, so that not everything is refused."""
        fitting = tuple(id for id, its_state in scene.tasks.items() if its_state == state)
        return self.one(fitting if fitting and self.often() else IDS)

    def open_promise(self, scene: Scene) -> str:
        fitting = tuple(id for id, state in scene.promises.items() if state == "pending")
        return self.one(fitting if fitting and self.often() else IDS)

    def awaited(self, scene: Scene) -> str:
        """Mostly pick a promise that a task awaits, above all a task that is acquired again: rare by pure chance."""
        return self.one(scene.awaited if scene.awaited and self.often() else IDS)

    def new(self, scene: Scene) -> str:
        fitting = scene.unused()
        return self.one(fitting if fitting and self.often() else IDS)

    def often(self) -> bool:
        return self.one((True, True, True, False))


type Factory = Callable[[Choices, Scene], Operation]


class Menu:
    """The operations and their weights. The weights add up to a power of two, which helps shrinking."""

    def __init__(self, weights: dict[Factory, int]) -> None:
        self._table: tuple[Factory, ...] = tuple(factory for factory, n in weights.items() for _ in range(n))
        assert len(self._table) == 128, len(self._table)

    def decode(self, number: int, scene: Scene) -> Operation:
        choices = Choices(number)
        return choices.one(self._table)(choices, scene)


def _concrete(value: Any, version_of: VersionOf) -> Any:
    match value:
        case Relative():
            return value.of(version_of(value.id))
        case dict():
            return {key: _concrete(member, version_of) for key, member in value.items()}
        case list():
            return [_concrete(member, version_of) for member in value]
    return value


def _version(choices: Choices, id: str) -> Relative:
    return Relative(id, choices.one((0, 0, 0, 0, 0, 0, 1, -1)))


# --- promises -------------------------------------------------------------------------------------------------------


ANCESTORS = {id: tuple(other for other in IDS if is_below(id, other)) for id in IDS}


def _new_promise(choices: Choices, now: int, id: str, targets: tuple[str | None, ...] = TARGETS) -> dict[str, Any]:
    timeout_at = now + choices.one(LIFETIMES)
    tags = {}
    target = choices.one(targets)
    if target is not None:
        tags["resonate:target"] = target
        if timeout_at > now + 1 and choices.one((False, False, False, False, False, True)):
            tags["resonate:delay"] = str(min(now + choices.one((5_000, 40, 0)), timeout_at - 1))
    for tag, options in (
        ("timer", (None, None, None, "true")),
        ("external", ("true", "true", "true", None)),
        ("branch", (None, *ANCESTORS[id])),
        ("parent", (None, *ANCESTORS[id])),
    ):
        text = choices.one(options)
        if text is not None:
            tags[f"resonate:{tag}"] = text
    return {"id": id, "timeoutAt": timeout_at, "param": choices.one(VALUES), "tags": tags}


def _settlement(choices: Choices, id: str) -> dict[str, Any]:
    return {"id": id, "state": choices.one(SETTLEMENTS), "value": choices.one(VALUES)}


def promise_get(choices: Choices, _: Scene) -> Operation:
    return Request("promise.get", {"id": choices.one(IDS)})


def promise_create(choices: Choices, scene: Scene) -> Operation:
    return Request("promise.create", _new_promise(choices, scene.now, choices.new(scene)))


def promise_settle(choices: Choices, scene: Scene) -> Operation:
    return Request("promise.settle", _settlement(choices, choices.awaited(scene)))


def promise_register_callback(choices: Choices, _: Scene) -> Operation:
    return Request("promise.register_callback", {"awaited": choices.one(IDS), "awaiter": choices.one(IDS)})


def promise_register_listener(choices: Choices, scene: Scene) -> Operation:
    return Request(
        "promise.register_listener", {"awaited": choices.open_promise(scene), "address": choices.one(ADDRESSES)}
    )


def promise_search(choices: Choices, _: Scene) -> Operation:
    return Request(
        "promise.search",
        {
            **choices.one(({}, {"state": "pending"}, {"state": "rejected_timedout"})),
            **choices.one(({}, {"tags": {"resonate:branch": "a"}})),
            **_page(choices),
        },
    )


def _page(choices: Choices) -> dict[str, Any]:
    return {**choices.one(({}, {"limit": 1}, {"limit": 2})), **choices.one(({}, {"cursor": "a"}, {"cursor": "b"}))}


# --- tasks ----------------------------------------------------------------------------------------------------------


def task_get(choices: Choices, _: Scene) -> Operation:
    return Request("task.get", {"id": choices.one(IDS)})


def task_create(choices: Choices, scene: Scene) -> Operation:
    promise = _new_promise(choices, scene.now, choices.new(scene), targets=TARGETS[1:])
    for tag in ("resonate:delay", "resonate:timer"):
        promise["tags"].pop(tag, None)
    action = {"kind": "promise.create", "head": {}, "data": promise}
    return Request("task.create", {"pid": choices.one(PIDS), "ttl": choices.one(TTLS), "action": action})


def task_acquire(choices: Choices, scene: Scene) -> Operation:
    id = choices.task(scene, "pending")
    data = {"id": id, "version": _version(choices, id), "pid": choices.one(PIDS), "ttl": choices.one(TTLS)}
    return Request("task.acquire", data)


def repeated_claim(choices: Choices, scene: Scene) -> Operation:
    """A claim with a correlation id that was used before, perhaps for the same claim."""
    id = choices.one(IDS[:2])
    if choices.often():
        data: dict[str, Any] = {"id": id, "version": Relative(id, choices.one((0, -1))), "pid": PIDS[0], "ttl": 5_000}
        return Request("task.acquire", data, choices.one(LONG_CORR_IDS))
    promise = {"id": id, "timeoutAt": scene.now + 60_000, "tags": {"resonate:target": TARGETS[1]}}
    data = {"pid": PIDS[0], "ttl": 5_000, "action": {"kind": "promise.create", "head": {}, "data": promise}}
    return Request("task.create", data, choices.one(LONG_CORR_IDS))


def task_release(choices: Choices, scene: Scene) -> Operation:
    id = choices.task(scene, "acquired")
    return Request("task.release", {"id": id, "version": _version(choices, id)})


def task_fulfill(choices: Choices, scene: Scene) -> Operation:
    id = choices.task(scene, "acquired")
    action = {"kind": "promise.settle", "head": {}, "data": _settlement(choices, id)}
    return Request("task.fulfill", {"id": id, "version": _version(choices, id), "action": action})


def task_suspend(choices: Choices, scene: Scene) -> Operation:
    id = choices.task(scene, "acquired")
    others = tuple(other for other in IDS if other != id)
    pending = tuple(other for other in others if scene.promises.get(other) == "pending")
    actions = [
        {"kind": "promise.register_callback", "head": {}, "data": {"awaited": awaited, "awaiter": id}}
        for awaited in choices.some(pending if pending and choices.often() else others)
    ]
    return Request("task.suspend", {"id": id, "version": _version(choices, id), "actions": actions})


def fence_create(choices: Choices, scene: Scene) -> Operation:
    id = choices.task(scene, "acquired")
    other = choices.one(tuple(other for other in IDS if other != id))
    action = {"kind": "promise.create", "head": {}, "data": _new_promise(choices, scene.now, other)}
    return Request("task.fence", {"id": id, "version": _version(choices, id), "action": action})


def fence_settle(choices: Choices, scene: Scene) -> Operation:
    id = choices.task(scene, "acquired")
    other = choices.one(tuple(other for other in IDS if other != id))
    action = {"kind": "promise.settle", "head": {}, "data": _settlement(choices, other)}
    return Request("task.fence", {"id": id, "version": _version(choices, id), "action": action})


def task_heartbeat(choices: Choices, scene: Scene) -> Operation:
    ids = [choices.task(scene, "acquired"), *choices.some(IDS)]
    tasks = [{"id": id, "version": _version(choices, id)} for id in ids]
    return Request("task.heartbeat", {"pid": choices.one(PIDS), "tasks": tasks})


def task_halt(choices: Choices, scene: Scene) -> Operation:
    return Request("task.halt", {"id": choices.one(tuple(scene.tasks) or IDS)})


def task_continue(choices: Choices, scene: Scene) -> Operation:
    return Request("task.continue", {"id": choices.task(scene, "halted")})


def task_search(choices: Choices, _: Scene) -> Operation:
    return Request("task.search", {**choices.one(({}, {"state": "pending"}, {"state": "acquired"})), **_page(choices)})


# --- schedules ------------------------------------------------------------------------------------------------------


def schedule_get(choices: Choices, _: Scene) -> Operation:
    return Request("schedule.get", {"id": choices.one(IDS[:2])})


def schedule_create(choices: Choices, _: Scene) -> Operation:
    tags = {"resonate:target": TARGETS[1], **choices.one(({}, {"kept": "yes"}))}
    crons = ("*/10 * * * * *", "* * * * *", "0 9 * * 2", "0 0 1 1 *", "no cron")
    data: dict[str, Any] = {"id": choices.one(IDS[:2]), "cron": choices.one(crons), "promiseId": choices.one(TEMPLATES)}
    data |= {"promiseTimeout": choices.one((60_000, 500, 0)), "promiseParam": choices.one(VALUES)}
    return Request("schedule.create", data | {"promiseTags": tags})


def schedule_delete(choices: Choices, _: Scene) -> Operation:
    return Request("schedule.delete", {"id": choices.one(IDS[:2])})


def schedule_search(choices: Choices, _: Scene) -> Operation:
    return Request("schedule.search", {**choices.one(({}, {"tags": {"kept": "yes"}})), **_page(choices)})


# --- time -----------------------------------------------------------------------------------------------------------


def nothing(_: Choices, __: Scene) -> Operation:
    return None


def wait(choices: Choices, _: Scene) -> Operation:
    return Wait(choices.one(PAUSES))


def tick(_: Choices, __: Scene) -> Operation:
    return Tick()


EVERYTHING = Menu(
    {
        nothing: 2,
        promise_get: 2,
        promise_create: 13,
        promise_settle: 7,
        promise_register_callback: 5,
        promise_register_listener: 4,
        promise_search: 3,
        task_get: 2,
        task_create: 6,
        task_acquire: 14,
        repeated_claim: 4,
        task_release: 4,
        task_fulfill: 4,
        task_suspend: 13,
        fence_create: 5,
        fence_settle: 3,
        task_heartbeat: 4,
        task_halt: 4,
        task_continue: 3,
        task_search: 2,
        schedule_get: 1,
        schedule_create: 4,
        schedule_delete: 2,
        schedule_search: 1,
        wait: 9,
        tick: 7,
    }
)
"""Requests of all kinds."""

OFFICIAL = Menu(
    {
        nothing: 1,
        promise_get: 3,
        promise_create: 21,
        promise_settle: 8,
        promise_register_listener: 5,
        task_create: 8,
        task_acquire: 17,
        task_release: 5,
        task_fulfill: 5,
        task_suspend: 20,
        fence_create: 5,
        fence_settle: 4,
        task_heartbeat: 6,
        wait: 12,
        tick: 8,
    }
)
"""Requests of the kinds that the official in-process server knows. Its schedules are stubs, which never fire."""
