"""Random requests to the machine over two trees that collide; a good part of them odd on purpose.

Drawn like those of the comparisons (differential/operations.py): one number each, and what depends on the state at
hand is filled in from a :class:`Scene`.
"""

from collections.abc import Callable
from typing import Any

from differential.operations import (
    PAUSES,
    SETTLEMENTS,
    TTLS,
    VALUES,
    Choices,
    Factory,
    Menu,
    Operation,
    Relative,
    Request,
    Scene,
    Tick,
    Wait,
)

TREES = {"t1": ("t1", "t1.a", "t1.b", "t1.a.x", "t1.a.y", "t1.c", "t1.d"), "t2": ("t2", "t2.a", "t2.b", "t2.c")}
IDS = tuple(id for ids in TREES.values() for id in ids)
SCHEDULE = "s1"
PIDS = ("pid-1", "pid-2")
TARGET = "poll://any@workers"
LIFETIMES = (3_600_000, 3_600_000, 3_600_000, 60_000, 60_000, 5_000, 500, -5)
"""From now to the deadline, in ms."""
ADDRESSES = ("poll://uni@callers/1", "poll://any@callers", "https://callers.example/", "poll://callers")
CRONS = ("0 0 1 1 *", "0 0 25 12 *", "0 0 1 1 *", "no cron")

NEWEST: tuple[Callable[[Choices, Scene], Operation], ...] = ()
"""Odd requests that only the newest rules refuse."""


def tree_of(id: str) -> str:
    return id.split(".")[0]


# --- what a request is made of --------------------------------------------------------------------------------------


def _seldom(choices: Choices) -> bool:
    return choices.one((False, False, False, False, False, False, False, True))


def _known(choices: Choices, states: dict[str, str], *wanted: str) -> str:
    """Mostly one in a wanted state; else one that is there, if any is."""
    fitting = tuple(id for id, state in states.items() if state in wanted)
    if fitting and choices.often():
        return choices.one(fitting)
    return choices.one(tuple(states) or IDS) if choices.often() else choices.one(IDS)


def _version(choices: Choices, id: str) -> Relative:
    return Relative(id, choices.one((1, -1)) if _seldom(choices) else 0)


def _in_tree(choices: Choices, id: str) -> str:
    return choices.one(TREES[tree_of(id)])


def _new_promise(choices: Choices, scene: Scene, id: str, target: str | None) -> dict[str, Any]:
    tags = {"resonate:origin": tree_of(id), "resonate:branch": choices.one((id, tree_of(id)))}
    if target is not None:
        tags["resonate:target"] = target
    tags |= choices.one(
        ({}, {}, {"resonate:timer": "true"}, {"resonate:external": "true"}, {"resonate:scope": "global"})
    )
    return {"id": id, "timeoutAt": scene.now + choices.one(LIFETIMES), "param": choices.one(VALUES), "tags": tags}


def _unused(choices: Choices, scene: Scene) -> str:
    fitting = tuple(id for id in IDS if id not in scene.promises)
    return choices.one(fitting if fitting and choices.often() else IDS)


def _settlement(choices: Choices, id: str) -> dict[str, Any]:
    state = "rejected_timedout" if _seldom(choices) else choices.one(SETTLEMENTS)
    return {"id": id, "state": state, "value": choices.one(VALUES)}


def _action(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "head": {}, "data": data}


# --- promises -------------------------------------------------------------------------------------------------------


def promise_get(choices: Choices, scene: Scene) -> Request:
    return Request("promise.get", {"id": _known(choices, scene.promises)})


def promise_create(choices: Choices, scene: Scene) -> Request:
    target = "nowhere" if _seldom(choices) else choices.one((TARGET, TARGET, None))
    return Request("promise.create", _new_promise(choices, scene, _unused(choices, scene), target))


def promise_settle(choices: Choices, scene: Scene) -> Request:
    id = choices.one(scene.awaited) if scene.awaited and choices.often() else _known(choices, scene.promises, "pending")
    return Request("promise.settle", _settlement(choices, id))


def register_callback(choices: Choices, scene: Scene) -> Request:
    awaiter = _known(choices, scene.tasks, "pending", "acquired", "suspended", "halted")
    near = tuple(one for one in TREES[tree_of(awaiter)] if one in scene.promises)
    awaited = choices.one(near) if near and choices.often() else _in_tree(choices, awaiter)
    return Request("promise.register_callback", {"awaited": awaited, "awaiter": awaiter})


def register_listener(choices: Choices, scene: Scene) -> Request:
    awaited = choices.one(IDS) if _seldom(choices) else _known(choices, scene.promises, "pending")
    data = {"awaited": awaited, "address": choices.one(ADDRESSES)}
    return Request("promise.register_listener", data)


def promise_search(choices: Choices, _: Scene) -> Request:
    return Request("promise.search", choices.one(({}, {"state": "pending"}, {"state": "rejected_timedout"})))


# --- tasks ----------------------------------------------------------------------------------------------------------


def task_get(choices: Choices, scene: Scene) -> Request:
    return Request("task.get", {"id": _known(choices, scene.tasks, *scene.tasks.values())})


def task_create(choices: Choices, scene: Scene) -> Request:
    target = None if _seldom(choices) else TARGET
    promise = _new_promise(choices, scene, _unused(choices, scene), target)
    claim = {"pid": choices.one(PIDS), "ttl": choices.one(TTLS)}
    return Request("task.create", {**claim, "action": _action("promise.create", promise)})


def task_acquire(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "pending")
    data = {"id": id, "version": _version(choices, id), "pid": choices.one(PIDS), "ttl": choices.one(TTLS)}
    return Request("task.acquire", data)


def task_release(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "acquired")
    return Request("task.release", {"id": id, "version": _version(choices, id)})


def task_fulfill(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "acquired")
    action = _action("promise.settle", _settlement(choices, _in_tree(choices, id) if _seldom(choices) else id))
    return Request("task.fulfill", {"id": id, "version": _version(choices, id), "action": action})


def task_suspend(choices: Choices, scene: Scene) -> Request:
    """Mostly on what is pending; seldom on nothing, on itself, or on the same twice."""
    id = _known(choices, scene.tasks, "acquired")
    others = tuple(one for one in TREES[tree_of(id)] if one != id and scene.promises.get(one) == "pending")
    some = others if others and not _seldom(choices) else TREES[tree_of(id)]
    awaited = [choices.one(some) for _ in range(choices.one((1, 1, 1, 2, 1, 2, 3, 0)))]
    if not _seldom(choices):
        awaited = [one for one in dict.fromkeys(awaited) if one != id] or [choices.one(some)]
    actions = [_action("promise.register_callback", {"awaited": one, "awaiter": id}) for one in awaited]
    return Request("task.suspend", {"id": id, "version": _version(choices, id), "actions": actions})


def task_fence(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "acquired")
    others = tuple(one for one in TREES[tree_of(id)] if one != id)
    other = id if _seldom(choices) else choices.one(others)
    kind = "promise.get" if _seldom(choices) else choices.one(("promise.create", "promise.settle"))
    data = _settlement(choices, other)
    if kind == "promise.create":
        data = _new_promise(choices, scene, other, choices.one((TARGET, None)))
    action = _action(kind, data)
    return Request("task.fence", {"id": id, "version": _version(choices, id), "action": action})


def task_heartbeat(choices: Choices, scene: Scene) -> Request:
    """Of several trees, as the SDKs send it."""
    ids = [_known(choices, scene.tasks, "acquired"), *choices.some(IDS)]
    tasks = [{"id": id, "version": _version(choices, id)} for id in ids]
    return Request("task.heartbeat", {"pid": choices.one(PIDS), "tasks": tasks})


def task_halt(choices: Choices, scene: Scene) -> Request:
    return Request("task.halt", {"id": choices.one(tuple(scene.tasks) or IDS)})


def task_continue(choices: Choices, scene: Scene) -> Request:
    return Request("task.continue", {"id": _known(choices, scene.tasks, "halted")})


# --- schedules, what is no request, and time ------------------------------------------------------------------------


def schedule_get(_: Choices, __: Scene) -> Request:
    return Request("schedule.get", {"id": SCHEDULE})


def schedule_create(choices: Choices, _: Scene) -> Request:
    """One that does not run within a sequence."""
    data: dict[str, Any] = {"id": SCHEDULE, "cron": choices.one(CRONS), "promiseId": "{{.timestamp}}"}
    tags = choices.one(({}, {"resonate:target": TARGET}))
    return Request("schedule.create", {**data, "promiseTimeout": 60_000, "promiseTags": tags})


def schedule_delete(_: Choices, __: Scene) -> Request:
    return Request("schedule.delete", {"id": SCHEDULE})


def incomplete(choices: Choices, scene: Scene) -> Request:
    """Without one member, or with a version below all."""
    request = choices.one(tuple(one for one in REQUESTS if one is not promise_search))(choices, scene)
    assert isinstance(request, Request)
    if "version" in request.data and choices.often():
        return Request(request.kind, {**request.data, "version": -1})
    left_out = choices.one(tuple(request.data) or ("nothing",))
    return Request(request.kind, {name: member for name, member in request.data.items() if name != left_out})


def unknown_kind(_: Choices, __: Scene) -> Request:
    return Request("promise.grow", {"id": IDS[0]})


def foreign_origin(choices: Choices, scene: Scene) -> Request:
    return _tagged(promise_create(choices, scene), choices.one(("origin", "parent", "branch")), "t3")


def colon_in_origin(choices: Choices, scene: Scene) -> Request:
    return _tagged(promise_create(choices, scene), "prefix", "t1:a")


def colon_in_schedule(choices: Choices, scene: Scene) -> Request:
    request = schedule_create(choices, scene)
    return Request(request.kind, {**request.data, "id": "s:1"})


def delayed_claim(choices: Choices, scene: Scene) -> Request:
    request = task_create(choices, scene)
    _tagged(Request("promise.create", request.data["action"]["data"]), "delay", str(scene.now))
    return request


def _tagged(request: Request, tag: str, text: str) -> Request:
    request.data["tags"][f"resonate:{tag}"] = text
    return request


def nothing(_: Choices, __: Scene) -> None:
    return None


def newest(choices: Choices, scene: Scene) -> Operation:
    return choices.one(NEWEST)(choices, scene) if NEWEST else None


def wait(choices: Choices, _: Scene) -> Wait:
    return Wait(choices.one(PAUSES))


def tick(_: Choices, __: Scene) -> Tick:
    return Tick()


def _with_a(state: str, factory: Factory, instead: Factory) -> Factory:
    """Mostly something else if no task is in that state: refusals are not all that there is to see."""

    def choose(choices: Choices, scene: Scene) -> Operation:
        there = state in scene.tasks.values() or not choices.often()
        return (factory if there else instead)(choices, scene)

    return choose


acquire = _with_a("pending", task_acquire, task_create)
release = _with_a("acquired", task_release, acquire)
fulfill = _with_a("acquired", task_fulfill, acquire)
suspend = _with_a("acquired", task_suspend, acquire)
fence = _with_a("acquired", task_fence, acquire)

REQUESTS: dict[Factory, int] = {
    promise_get: 2,
    promise_create: 12,
    promise_settle: 6,
    register_callback: 4,
    register_listener: 4,
    promise_search: 2,
    task_get: 6,
    task_create: 10,
    acquire: 14,
    release: 4,
    fulfill: 4,
    suspend: 18,
    fence: 10,
    task_heartbeat: 6,
    task_halt: 3,
    task_continue: 4,
    schedule_get: 1,
    schedule_create: 1,
    schedule_delete: 1,
}
"""How often each, in 128 steps; the rest is odd, or time."""

ONE_BY_ONE = Menu({nothing: 1, **REQUESTS, incomplete: 3, newest: 1, wait: 6, tick: 5})
AT_ONCE = Menu({**REQUESTS, promise_search: 0, acquire: 20, suspend: 24, incomplete: 6})
"""For clients whose requests interleave: no request that ranges over several trees."""

ANSWERS: dict[str, set[int]] = {
    "promise.get": {200, 400, 404},
    "promise.create": {200, 400},
    "promise.settle": {200, 400, 404},
    "promise.register_callback": {200, 400, 404, 422},
    "promise.register_listener": {200, 400, 404, 422},
    "promise.search": {200},
    "task.get": {200, 400, 404},
    "task.create": {200, 400, 409, 422},
    "task.acquire": {200, 400, 404, 409},
    "task.release": {200, 400, 404, 409},
    "task.fulfill": {200, 400, 404, 409},
    "task.suspend": {200, 300, 400, 404, 409, 422},
    "task.fence": {200, 400, 404, 409},
    "task.fence: promise.create": {200},
    "task.fence: promise.settle": {200, 404},
    "task.heartbeat": {200, 400},
    "task.halt": {200, 400, 404, 409},
    "task.continue": {200, 400, 404, 409},
    "schedule.get": {200, 400, 404},
    "schedule.create": {200, 400},
    "schedule.delete": {200, 400, 404},
    "debug.reset": {200},
    "debug.tick": {200},
}
"""Which statuses each kind has. All must occur in a run, and no other."""
