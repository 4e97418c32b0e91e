"""Random operations, each decoded from one number: requests of every kind over a few colliding ids, and time steps.

One number per operation keeps the generator fast and a sequence easy to shorten: every part of a sequence is a valid
sequence. What depends on the current state (a task's version, the time) is filled in when the operation is run, so
that most requests name the right version. The ids, and what else differs between the users of this module, are in a
:class:`World`.
"""

from collections.abc import Callable
from functools import partial
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
SETTLEMENTS = ("resolved", "rejected", "rejected_canceled")
VALUES: tuple[dict[str, Any], ...] = ({}, {"data": "eA=="}, {"headers": {"h": "1"}, "data": ""})
TEMPLATES = ("{{.id}}-{{.timestamp}}", "a", "fired.{{.timestamp}}")
YEARLY = ("0 0 1 1 *", "0 0 25 12 *", "no cron")
"""These do not fire within a sequence."""
CRONS = ("*/10 * * * * *", "* * * * *", "0 9 * * 2", *YEARLY)
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


class World(Struct, frozen=True):
    """What requests are about. ``trees``: ids that may have to do with each other; ``lifetimes``: from now to a
    deadline, in ms; ``pauses``: waits in ms; ``tags`` of the promise with an id, besides its target, given the time
    left to it. ``is_odd``: now and then, something that no client should send."""

    trees: tuple[tuple[str, ...], ...]
    targets: tuple[str | None, ...]
    tags: "Callable[[Choices, Scene, str, int], dict[str, str]]"
    lifetimes: tuple[int, ...]
    pauses: tuple[int, ...]
    addresses: tuple[str, ...]
    is_odd: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(id for tree in self.trees for id in tree)

    def near(self, id: str) -> tuple[str, ...]:
        """Return the tree of ``id``."""
        return next(tree for tree in self.trees if id in tree)


class Choices:
    """Read choices from a number as digits, lowest first. Once it is used up, read digits derived from it."""

    def __init__(self, number: int, world: World) -> None:
        self.world = world
        self._left = number
        self._more = number * GOLDEN % 2**64 >> 16

    def one[T](self, options: tuple[T, ...]) -> T:
        if self._left < len(options):
            self._left, self._more = self._more, 0
        self._left, index = divmod(self._left, len(options))
        return options[index]

    def often(self) -> bool:
        return self.one((True, True, True, False))

    def seldom(self) -> bool:
        return self.one((False, False, False, False, False, False, False, True))

    def odd(self) -> bool:
        """Seldom, where the world is odd."""
        return self.world.is_odd and self.seldom()

    def any_id(self) -> str:
        return self.one(self.world.ids)

    def known(self, states: dict[str, str], *wanted: str) -> str:
        """Mostly pick one in a wanted state, so that not everything is refused; otherwise mostly one that exists."""
        fitting = tuple(id for id, state in states.items() if state in wanted)
        if fitting and self.often():
            return self.one(fitting)
        return self.one(tuple(states) or self.world.ids) if self.often() else self.any_id()

    def unused(self, scene: Scene) -> str:
        """Mostly pick an unused id."""
        fitting = tuple(id for id in self.world.ids if id not in scene.promises)
        return self.one(fitting) if fitting and self.often() else self.any_id()

    def version(self, id: str) -> Relative:
        return Relative(id, self.one((1, -1)) if self.seldom() else 0)


type Factory = Callable[[Choices, Scene], Operation]


class Menu:
    """The operations and their weights. The weights add up to a power of two, which helps shrinking."""

    def __init__(self, world: World, weights: dict[Factory, int]) -> None:
        self._world = world
        self._table: tuple[Factory, ...] = tuple(factory for factory, n in weights.items() for _ in range(n))
        assert len(self._table) == 128, len(self._table)

    def decode(self, number: int, scene: Scene) -> Operation:
        choices = Choices(number, self._world)
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


# --- promises -------------------------------------------------------------------------------------------------------


def _new_promise(choices: Choices, scene: Scene, id: str, targets: tuple[str | None, ...]) -> dict[str, Any]:
    lifetime = choices.one(choices.world.lifetimes)
    target = choices.one(targets)
    tags = choices.world.tags(choices, scene, id, lifetime)
    if target is None:
        tags.pop("resonate:delay", None)
    else:
        tags["resonate:target"] = target
    return {"id": id, "timeoutAt": scene.now + lifetime, "param": choices.one(VALUES), "tags": tags}


def _settlement(choices: Choices, id: str) -> dict[str, Any]:
    state = "rejected_timedout" if choices.odd() else choices.one(SETTLEMENTS)
    return {"id": id, "state": state, "value": choices.one(VALUES)}


def _action(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "head": {}, "data": data}


def promise_get(choices: Choices, scene: Scene) -> Request:
    return Request("promise.get", {"id": choices.known(scene.promises)})


def promise_create(choices: Choices, scene: Scene) -> Request:
    targets = ("nowhere",) if choices.odd() else choices.world.targets
    return Request("promise.create", _new_promise(choices, scene, choices.unused(scene), targets))


def promise_settle(choices: Choices, scene: Scene) -> Request:
    """Mostly of a promise that a task awaits, above all a task that is acquired again: rare by pure chance."""
    awaited = choices.one(scene.awaited) if scene.awaited and choices.often() else None
    return Request("promise.settle", _settlement(choices, awaited or choices.known(scene.promises, "pending")))


def register_callback(choices: Choices, scene: Scene) -> Request:
    awaiter = choices.known(scene.tasks, "pending", "acquired", "suspended", "halted")
    near = choices.world.near(awaiter)
    there = tuple(id for id in near if id in scene.promises)
    awaited = choices.one(there if there and choices.often() else near)
    return Request("promise.register_callback", {"awaited": awaited, "awaiter": awaiter})


def register_listener(choices: Choices, scene: Scene) -> Request:
    awaited = choices.any_id() if choices.seldom() else choices.known(scene.promises, "pending")
    address = choices.one(choices.world.addresses)
    return Request("promise.register_listener", {"awaited": awaited, "address": address})


def promise_states(choices: Choices, _: Scene) -> Request:
    """A search by state alone."""
    return Request("promise.search", choices.one(({}, {"state": "pending"}, {"state": "rejected_timedout"})))


def promise_search(choices: Choices, scene: Scene) -> Request:
    tags = choices.one(({}, {"tags": {"resonate:branch": "a"}}))
    return Request("promise.search", promise_states(choices, scene).data | tags | _page(choices))


def _page(choices: Choices) -> dict[str, Any]:
    return {**choices.one(({}, {"limit": 1}, {"limit": 2})), **choices.one(({}, {"cursor": "a"}, {"cursor": "b"}))}


# --- tasks ----------------------------------------------------------------------------------------------------------


def of_task(kind: str, *states: str) -> Factory:
    """Return a factory of requests that name only a task, mostly one in one of these states."""
    return lambda choices, scene: Request(kind, {"id": choices.known(scene.tasks, *states)})


task_get = of_task("task.get", "acquired", "suspended")
task_halt = of_task("task.halt", "acquired", "pending", "suspended")
task_continue = of_task("task.continue", "halted")


def task_create(choices: Choices, scene: Scene) -> Request:
    targets = (None,) if choices.odd() else tuple(filter(None, choices.world.targets))
    promise = _new_promise(choices, scene, choices.unused(scene), targets)
    promise["tags"].pop("resonate:delay", None)
    claim = {"pid": choices.one(PIDS), "ttl": choices.one(TTLS)}
    return Request("task.create", {**claim, "action": _action("promise.create", promise)})


def task_acquire(choices: Choices, scene: Scene) -> Request:
    id = choices.known(scene.tasks, "pending")
    claim = {"pid": choices.one(PIDS), "ttl": choices.one(TTLS)}
    return Request("task.acquire", {"id": id, "version": choices.version(id), **claim})


def repeated_claim(choices: Choices, scene: Scene) -> Request:
    """A claim with a correlation id that was used before, perhaps for the same claim."""
    id = choices.one(choices.world.ids[:2])
    claim = {"pid": PIDS[0], "ttl": 5_000}
    if choices.often():
        version = Relative(id, choices.one((0, -1)))
        return Request("task.acquire", {"id": id, "version": version, **claim}, choices.one(LONG_CORR_IDS))
    promise = {"id": id, "timeoutAt": scene.now + 60_000, "tags": {"resonate:target": TARGETS[1]}}
    action = _action("promise.create", promise)
    return Request("task.create", {**claim, "action": action}, choices.one(LONG_CORR_IDS))


def task_release(choices: Choices, scene: Scene) -> Request:
    id = choices.known(scene.tasks, "acquired")
    return Request("task.release", {"id": id, "version": choices.version(id)})


def task_fulfill(choices: Choices, scene: Scene) -> Request:
    id = choices.known(scene.tasks, "acquired")
    action = _action("promise.settle", _settlement(choices, choices.any_id() if choices.odd() else id))
    return Request("task.fulfill", {"id": id, "version": choices.version(id), "action": action})


def task_suspend(choices: Choices, scene: Scene) -> Request:
    """Mostly on pending promises; rarely on the same one twice; in an odd world also on none, or on itself."""
    id = choices.known(scene.tasks, "acquired")
    near = choices.world.near(id)
    if not choices.odd():
        near = tuple(one for one in near if one != id)
    pending = tuple(one for one in near if one != id and scene.promises.get(one) == "pending")
    some = pending if pending and not choices.seldom() else near
    awaited = [choices.one(some) for _ in range(choices.one((1, 1, 1, 2, 1, 2, 3, 2)))]
    if not choices.seldom():
        awaited = [*dict.fromkeys(awaited)]
    if choices.odd():
        awaited = []
    actions = [_action("promise.register_callback", {"awaited": one, "awaiter": id}) for one in awaited]
    return Request("task.suspend", {"id": id, "version": choices.version(id), "actions": actions})


def task_fence(choices: Choices, scene: Scene) -> Request:
    """In an odd world rarely on itself, or with an inner request of another kind."""
    id = choices.known(scene.tasks, "acquired")
    others = tuple(one for one in choices.world.near(id) if one != id)
    other = id if choices.odd() else choices.one(others)
    if choices.one((True, False)):
        action = _action("promise.create", _new_promise(choices, scene, other, choices.world.targets))
    else:
        action = _action("promise.get" if choices.odd() else "promise.settle", _settlement(choices, other))
    return Request("task.fence", {"id": id, "version": choices.version(id), "action": action})


def task_heartbeat(choices: Choices, scene: Scene) -> Request:
    """For tasks of several trees, as the SDKs send it."""
    ids = [choices.known(scene.tasks, "acquired") for _ in range(3)] + [choices.any_id()]
    tasks = [{"id": id, "version": choices.version(id)} for id in ids]
    return Request("task.heartbeat", {"pid": choices.one(PIDS), "tasks": tasks})


def task_search(choices: Choices, _: Scene) -> Request:
    return Request("task.search", {**choices.one(({}, {"state": "pending"}, {"state": "acquired"})), **_page(choices)})


# --- schedules ------------------------------------------------------------------------------------------------------


def schedule_get(choices: Choices, _: Scene) -> Request:
    return Request("schedule.get", {"id": choices.one(IDS[:2])})


def schedule_create(choices: Choices, _: Scene, crons: tuple[str, ...] = CRONS) -> Request:
    tags = {"resonate:target": TARGETS[1], **choices.one(({}, {"kept": "yes"}))}
    data: dict[str, Any] = {"id": choices.one(IDS[:2]), "cron": choices.one(crons), "promiseId": choices.one(TEMPLATES)}
    data |= {"promiseTimeout": choices.one((60_000, 500, 0)), "promiseParam": choices.one(VALUES)}
    return Request("schedule.create", data | {"promiseTags": tags})


yearly_schedule_create = partial(schedule_create, crons=YEARLY)


def schedule_delete(choices: Choices, _: Scene) -> Request:
    return Request("schedule.delete", {"id": choices.one(IDS[:2])})


def schedule_search(choices: Choices, _: Scene) -> Request:
    return Request("schedule.search", {**choices.one(({}, {"tags": {"kept": "yes"}})), **_page(choices)})


def all_schedules(_: Choices, __: Scene) -> Request:
    return Request("schedule.search", {})


# --- time -----------------------------------------------------------------------------------------------------------


def nothing(_: Choices, __: Scene) -> None:
    return None


def wait(choices: Choices, _: Scene) -> Wait:
    return Wait(choices.one(choices.world.pauses))


def tick(_: Choices, __: Scene) -> Tick:
    return Tick()


# --- what the comparisons are about ---------------------------------------------------------------------------------

ANCESTORS = {id: tuple(other for other in IDS if is_below(id, other)) for id in IDS}


def _tags(choices: Choices, scene: Scene, id: str, lifetime: int) -> dict[str, str]:
    tags = {}
    if lifetime > 1 and choices.one((False, False, False, False, False, True)):
        tags["resonate:delay"] = str(scene.now + min(choices.one((5_000, 40, 0)), lifetime - 1))
    for tag, options in (
        ("timer", (None, None, None, "true")),
        ("external", ("true", "true", "true", None)),
        ("branch", (None, *ANCESTORS[id])),
        ("parent", (None, *ANCESTORS[id])),
    ):
        text = choices.one(options)
        if text is not None:
            tags[f"resonate:{tag}"] = text
    return tags


FEW_IDS = World(
    trees=(IDS,),
    targets=TARGETS,
    tags=_tags,
    lifetimes=(3_600_000, 3_600_000, 60_000, 60_000, 5_000, 1_000, 50, -5),
    pauses=(1, 20, 60, 500, 1_000, 6_000, 31_000),
    addresses=("poll://uni@callers/1", "poll://any@callers"),
)

EVERYTHING = Menu(
    FEW_IDS,
    {
        nothing: 2,
        promise_get: 2,
        promise_create: 13,
        promise_settle: 7,
        register_callback: 5,
        register_listener: 4,
        promise_search: 3,
        task_get: 2,
        task_create: 6,
        task_acquire: 14,
        repeated_claim: 4,
        task_release: 4,
        task_fulfill: 4,
        task_suspend: 13,
        task_fence: 8,
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
    },
)
"""Requests of all kinds."""

OFFICIAL = Menu(
    FEW_IDS,
    {
        nothing: 1,
        promise_get: 3,
        promise_create: 20,
        promise_settle: 8,
        register_listener: 5,
        task_create: 8,
        task_acquire: 16,
        task_release: 5,
        task_fulfill: 5,
        task_suspend: 19,
        task_fence: 9,
        task_heartbeat: 5,
        schedule_get: 1,
        yearly_schedule_create: 2,
        schedule_delete: 1,
        all_schedules: 1,
        wait: 11,
        tick: 8,
    },
)
"""Requests of the kinds that the official in-process server knows."""
