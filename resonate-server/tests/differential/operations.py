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
type Data = dict[str, Any]


class Request(Struct, frozen=True):
    """``data`` may hold :class:`Relative` versions."""

    kind: str
    data: Data
    corr_id: str | None = None

    def data_for(self, version_of: VersionOf) -> Data:
        """Return the data with the versions of one server filled in."""
        concrete: Data = _concrete(self.data, version_of)
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


ANCESTORS = {id: tuple(other for other in IDS if is_below(id, other)) for id in IDS}


def _new_promise(choices: Choices, now: int, id: str, targets: tuple[str | None, ...] = TARGETS) -> Data:
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


def _settlement(choices: Choices, id: str) -> Data:
    return {"id": id, "state": choices.one(SETTLEMENTS), "value": choices.one(VALUES)}


def _version(choices: Choices, id: str) -> Relative:
    return Relative(id, choices.one((0, 0, 0, 0, 0, 0, 1, -1)))


def _page(choices: Choices) -> Data:
    return {**choices.one(({}, {"limit": 1}, {"limit": 2})), **choices.one(({}, {"cursor": "a"}, {"cursor": "b"}))}


def _action(kind: str, data: Data) -> Data:
    return {"kind": kind, "head": {}, "data": data}


def _task_create(choices: Choices, scene: Scene) -> Data:
    promise = _new_promise(choices, scene.now, choices.new(scene), targets=TARGETS[1:])
    for tag in ("resonate:delay", "resonate:timer"):
        promise["tags"].pop(tag, None)
    return {"pid": choices.one(PIDS), "ttl": choices.one(TTLS), "action": _action("promise.create", promise)}


def _of_task(choices: Choices, scene: Scene, state: str = "acquired") -> Data:
    """The task that a request names, mostly one in ``state``, and its version."""
    id = choices.task(scene, state)
    return {"id": id, "version": _version(choices, id)}


def _task_fulfill(choices: Choices, scene: Scene) -> Data:
    id = choices.task(scene, "acquired")
    action = _action("promise.settle", _settlement(choices, id))
    return {"id": id, "version": _version(choices, id), "action": action}


def _task_suspend(choices: Choices, scene: Scene) -> Data:
    id = choices.task(scene, "acquired")
    others = tuple(other for other in IDS if other != id)
    pending = tuple(other for other in others if scene.promises.get(other) == "pending")
    actions = [
        _action("promise.register_callback", {"awaited": awaited, "awaiter": id})
        for awaited in choices.some(pending if pending and choices.often() else others)
    ]
    return {"id": id, "version": _version(choices, id), "actions": actions}


def _task_fence(choices: Choices, scene: Scene, kind: str, data: Callable[[str], Data]) -> Data:
    id = choices.task(scene, "acquired")
    other = choices.one(tuple(other for other in IDS if other != id))
    action = _action(kind, data(other))
    return {"id": id, "version": _version(choices, id), "action": action}


def _task_heartbeat(choices: Choices, scene: Scene) -> Data:
    ids = [choices.task(scene, "acquired"), *choices.some(IDS)]
    tasks = [{"id": id, "version": _version(choices, id)} for id in ids]
    return {"pid": choices.one(PIDS), "tasks": tasks}


def _schedule_create(choices: Choices, _: Scene) -> Data:
    tags = {"resonate:target": TARGETS[1], **choices.one(({}, {"kept": "yes"}))}
    crons = ("*/10 * * * * *", "* * * * *", "0 9 * * 2", "0 0 1 1 *", "no cron")
    data: Data = {"id": choices.one(IDS[:2]), "cron": choices.one(crons), "promiseId": choices.one(TEMPLATES)}
    data |= {"promiseTimeout": choices.one((60_000, 500, 0)), "promiseParam": choices.one(VALUES)}
    return data | {"promiseTags": tags}


DATA: dict[str, Callable[[Choices, Scene], Data]] = {
    "promise.get": lambda choices, _: {"id": choices.one(IDS)},
    "promise.create": lambda choices, scene: _new_promise(choices, scene.now, choices.new(scene)),
    "promise.settle": lambda choices, scene: _settlement(choices, choices.awaited(scene)),
    "promise.register_callback": lambda choices, _: {"awaited": choices.one(IDS), "awaiter": choices.one(IDS)},
    "promise.register_listener": lambda choices, scene: {
        "awaited": choices.open_promise(scene),
        "address": choices.one(ADDRESSES),
    },
    "promise.search": lambda choices, _: {
        **choices.one(({}, {"state": "pending"}, {"state": "rejected_timedout"})),
        **choices.one(({}, {"tags": {"resonate:branch": "a"}})),
        **_page(choices),
    },
    "task.get": lambda choices, _: {"id": choices.one(IDS)},
    "task.create": _task_create,
    "task.acquire": lambda choices, scene: {
        **_of_task(choices, scene, "pending"),
        "pid": choices.one(PIDS),
        "ttl": choices.one(TTLS),
    },
    "task.release": _of_task,
    "task.fulfill": _task_fulfill,
    "task.suspend": _task_suspend,
    "task.fence create": lambda choices, scene: _task_fence(
        choices, scene, "promise.create", lambda id: _new_promise(choices, scene.now, id)
    ),
    "task.fence settle": lambda choices, scene: _task_fence(
        choices, scene, "promise.settle", lambda id: _settlement(choices, id)
    ),
    "task.heartbeat": _task_heartbeat,
    "task.halt": lambda choices, scene: {"id": choices.one(tuple(scene.tasks) or IDS)},
    "task.continue": lambda choices, scene: {"id": choices.task(scene, "halted")},
    "task.search": lambda choices, _: {
        **choices.one(({}, {"state": "pending"}, {"state": "acquired"})),
        **_page(choices),
    },
    "schedule.get": lambda choices, _: {"id": choices.one(IDS[:2])},
    "schedule.create": _schedule_create,
    "schedule.delete": lambda choices, _: {"id": choices.one(IDS[:2])},
    "schedule.search": lambda choices, _: {**choices.one(({}, {"tags": {"kept": "yes"}})), **_page(choices)},
}
"""The data of a request of each kind; what follows a blank tells two of one kind apart."""


def repeated_claim(choices: Choices, scene: Scene) -> Operation:
    """A claim with a correlation id that was used before, perhaps for the same claim."""
    id = choices.one(IDS[:2])
    if choices.often():
        data: Data = {"id": id, "version": Relative(id, choices.one((0, -1))), "pid": PIDS[0], "ttl": 5_000}
        return Request("task.acquire", data, choices.one(LONG_CORR_IDS))
    promise = {"id": id, "timeoutAt": scene.now + 60_000, "tags": {"resonate:target": TARGETS[1]}}
    data = {"pid": PIDS[0], "ttl": 5_000, "action": _action("promise.create", promise)}
    return Request("task.create", data, choices.one(LONG_CORR_IDS))


def nothing(_: Choices, __: Scene) -> Operation:
    return None


def wait(choices: Choices, _: Scene) -> Operation:
    return Wait(choices.one(PAUSES))


def tick(_: Choices, __: Scene) -> Operation:
    return Tick()


def _factory(name: str) -> Factory:
    kind, data = name.partition(" ")[0], DATA[name]
    return lambda choices, scene: Request(kind, data(choices, scene))


FACTORIES = {name: _factory(name) for name in DATA}
FACTORIES |= {"nothing": nothing, "repeated claim": repeated_claim, "wait": wait, "tick": tick}


def menu(weights: dict[str, int]) -> Menu:
    return Menu({FACTORIES[name]: weight for name, weight in weights.items()})


EVERYTHING = menu(
    {
        "nothing": 2,
        "promise.get": 2,
        "promise.create": 13,
        "promise.settle": 7,
        "promise.register_callback": 5,
        "promise.register_listener": 4,
        "promise.search": 3,
        "task.get": 2,
        "task.create": 6,
        "task.acquire": 14,
        "repeated claim": 4,
        "task.release": 4,
        "task.fulfill": 4,
        "task.suspend": 13,
        "task.fence create": 5,
        "task.fence settle": 3,
        "task.heartbeat": 4,
        "task.halt": 4,
        "task.continue": 3,
        "task.search": 2,
        "schedule.get": 1,
        "schedule.create": 4,
        "schedule.delete": 2,
        "schedule.search": 1,
        "wait": 9,
        "tick": 7,
    }
)
"""Requests of all kinds."""

OFFICIAL = menu(
    {
        "nothing": 1,
        "promise.get": 3,
        "promise.create": 21,
        "promise.settle": 8,
        "promise.register_listener": 5,
        "task.create": 8,
        "task.acquire": 17,
        "task.release": 5,
        "task.fulfill": 5,
        "task.suspend": 20,
        "task.fence create": 5,
        "task.fence settle": 4,
        "task.heartbeat": 6,
        "wait": 12,
        "tick": 8,
    }
)
"""Requests of the kinds that the official in-process server knows. Its schedules are stubs, which never fire."""
