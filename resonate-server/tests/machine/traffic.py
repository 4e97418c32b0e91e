"""Random requests over two trees of colliding ids, many of them deliberately odd.

They are drawn like those of the comparisons (differential/operations.py): one number each; whatever depends on the
current state is filled in from a :class:`Scene`.
"""

from typing import Any

from differential.operations import (
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
    Wait,
    nothing,
    tick,
)

TREES = {"t1": ("t1", "t1.a", "t1.b", "t1.a.x", "t1.a.y", "t1.c", "t1.d"), "t2": ("t2", "t2.a", "t2.b", "t2.c")}
IDS = tuple(id for ids in TREES.values() for id in ids)
PIDS = ("pid-1", "pid-2")
TARGET = {"resonate:target": "poll://any@workers"}
MARKS: tuple[dict[str, str], ...] = (
    {},
    {},
    {"resonate:timer": "true"},
    {"resonate:external": "true"},
    {"resonate:scope": "global"},
)
MISPLACED = (
    {"resonate:origin": "t3"},
    {"resonate:parent": "t3"},
    {"resonate:branch": "t3"},
    {"resonate:prefix": "t1:a"},
    {"resonate:delay": "1"},
    {"resonate:timer": "true"},
)
"""Tags that the promise of a task.create must not have."""
LIFETIMES = (3_600_000, 3_600_000, 3_600_000, 60_000, 60_000, 5_000, 500, -5)
"""From now to the deadline, in ms."""
PAUSES = (60, 500, 3_000, 31_000, 31_000)
"""Waits in ms. Most are a bit more than half a lease, which ends in the second such wait unless extended in between."""
ADDRESSES = ("poll://uni@callers/1", "poll://any@callers", "https://callers.example/", "poll://callers")

ANSWERS = {
    (200,): "promise.search, debug.reset, debug.tick, task.fence: promise.create",
    (200, 404): "task.fence: promise.settle",
    (200, 400): "promise.create, task.heartbeat, schedule.create",
    (200, 400, 404): "promise.get, promise.settle, task.get, schedule.get, schedule.delete",
    (200, 400, 404, 409): "task.acquire, task.release, task.fulfill, task.halt, task.continue",
    (200, 400, 404, 422): "promise.register_callback, promise.register_listener",
    (200, 400, 409, 422): "task.create",
    (200, 400, 404, 409, 422): "task.fence",
    (200, 300, 400, 404, 409, 422): "task.suspend",
    (501,): "promise.grow",
}
"""The statuses of each kind. All of them must occur in a run, and no others."""


def tree_of(id: str) -> str:
    return id.split(".")[0]


# --- parts of a request ---------------------------------------------------------------------------------------------


def _seldom(choices: Choices) -> bool:
    return choices.one((False, False, False, False, False, False, False, True))


def _known(choices: Choices, states: dict[str, str], *wanted: str) -> str:
    """Mostly pick one in a wanted state; otherwise mostly one that exists."""
    fitting = tuple(id for id, state in states.items() if state in wanted)
    if fitting and choices.often():
        return choices.one(fitting)
    return choices.one(tuple(states) or IDS) if choices.often() else choices.one(IDS)


def _unused(choices: Choices, scene: Scene) -> str:
    fitting = tuple(id for id in IDS if id not in scene.promises)
    return choices.one(fitting if fitting and choices.often() else IDS)


def _version(choices: Choices, id: str) -> Relative:
    return Relative(id, choices.one((1, -1)) if _seldom(choices) else 0)


def _new_promise(choices: Choices, scene: Scene, id: str, target: dict[str, str]) -> dict[str, Any]:
    lineage = {"resonate:origin": tree_of(id), "resonate:branch": choices.one((id, tree_of(id)))}
    tags = {**lineage, **target, **choices.one(MARKS)}
    return {"id": id, "timeoutAt": scene.now + choices.one(LIFETIMES), "param": choices.one(VALUES), "tags": tags}


def _settlement(choices: Choices, id: str) -> dict[str, Any]:
    state = "rejected_timedout" if _seldom(choices) else choices.one(SETTLEMENTS)
    return {"id": id, "state": state, "value": choices.one(VALUES)}


def _action(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "head": {}, "data": data}


# --- promises -------------------------------------------------------------------------------------------------------


def promise_get(choices: Choices, scene: Scene) -> Request:
    return Request("promise.get", {"id": _known(choices, scene.promises)})


def promise_search(choices: Choices, _: Scene) -> Request:
    return Request("promise.search", choices.one(({}, {"state": "pending"}, {"state": "rejected_timedout"})))


def promise_create(choices: Choices, scene: Scene) -> Request:
    target = {"resonate:target": "nowhere"} if _seldom(choices) else choices.one((TARGET, TARGET, {}))
    return Request("promise.create", _new_promise(choices, scene, _unused(choices, scene), target))


def promise_settle(choices: Choices, scene: Scene) -> Request:
    awaited = choices.one(scene.awaited) if scene.awaited and choices.often() else None
    return Request("promise.settle", _settlement(choices, awaited or _known(choices, scene.promises, "pending")))


def register_callback(choices: Choices, scene: Scene) -> Request:
    awaiter = _known(choices, scene.tasks, "pending", "acquired", "suspended", "halted")
    near = TREES[tree_of(awaiter)]
    there = tuple(id for id in near if id in scene.promises)
    awaited = choices.one(there if there and choices.often() else near)
    return Request("promise.register_callback", {"awaited": awaited, "awaiter": awaiter})


def register_listener(choices: Choices, scene: Scene) -> Request:
    awaited = choices.one(IDS) if _seldom(choices) else _known(choices, scene.promises, "pending")
    return Request("promise.register_listener", {"awaited": awaited, "address": choices.one(ADDRESSES)})


# --- tasks ----------------------------------------------------------------------------------------------------------


def _of_task(kind: str, *states: str) -> Factory:
    """Return a factory of requests that name only a task, mostly one in one of these states."""
    return lambda choices, scene: Request(kind, {"id": _known(choices, scene.tasks, *states)})


def task_create(choices: Choices, scene: Scene) -> Request:
    promise = _new_promise(choices, scene, _unused(choices, scene), {} if _seldom(choices) else TARGET)
    action = _action("promise.create", promise)
    return Request("task.create", {"pid": choices.one(PIDS), "ttl": choices.one(TTLS), "action": action})


def task_acquire(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "pending")
    claim = {"pid": choices.one(PIDS), "ttl": choices.one(TTLS)}
    return Request("task.acquire", {"id": id, "version": _version(choices, id), **claim})


def task_release(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "acquired")
    return Request("task.release", {"id": id, "version": _version(choices, id)})


def task_fulfill(choices: Choices, scene: Scene) -> Request:
    id = _known(choices, scene.tasks, "acquired")
    action = _action("promise.settle", _settlement(choices, choices.one(IDS) if _seldom(choices) else id))
    return Request("task.fulfill", {"id": id, "version": _version(choices, id), "action": action})


def task_suspend(choices: Choices, scene: Scene) -> Request:
    """Mostly on pending promises; rarely on none, on itself, or on the same promise twice."""
    id = _known(choices, scene.tasks, "acquired")
    near = TREES[tree_of(id)]
    pending = tuple(one for one in near if one != id and scene.promises.get(one) == "pending")
    some = pending if pending and not _seldom(choices) else near
    awaited = [choices.one(some) for _ in range(choices.one((1, 1, 1, 2, 1, 2, 3, 0)))]
    if not _seldom(choices):
        awaited = [one for one in dict.fromkeys(awaited) if one != id] or [choices.one(some)]
    actions = [_action("promise.register_callback", {"awaited": one, "awaiter": id}) for one in awaited]
    return Request("task.suspend", {"id": id, "version": _version(choices, id), "actions": actions})


def task_fence(choices: Choices, scene: Scene) -> Request:
    """Rarely on itself, or with an inner request of another kind."""
    id = _known(choices, scene.tasks, "acquired")
    other = id if _seldom(choices) else choices.one(tuple(one for one in TREES[tree_of(id)] if one != id))
    create = _action("promise.create", _new_promise(choices, scene, other, choices.one((TARGET, {}))))
    settle = _action("promise.get" if _seldom(choices) else "promise.settle", _settlement(choices, other))
    data = {"id": id, "version": _version(choices, id), "action": choices.one((create, settle))}
    return Request("task.fence", data)


def task_heartbeat(choices: Choices, scene: Scene) -> Request:
    """For tasks of several trees, as the SDKs send it."""
    ids = [_known(choices, scene.tasks, "acquired") for _ in range(3)] + [choices.one(IDS)]
    tasks = [{"id": id, "version": _version(choices, id)} for id in ids]
    return Request("task.heartbeat", {"pid": choices.one(PIDS), "tasks": tasks})


def _with_a(state: str, factory: Factory, instead: Factory) -> Factory:
    """Mostly make another request if no task is in that state, so that not everything is refused."""

    def choose(choices: Choices, scene: Scene) -> Operation:
        there = state in scene.tasks.values() or not choices.often()
        return (factory if there else instead)(choices, scene)

    return choose


# --- schedules, and violations of the rules -----------------------------------------------------------------------


def schedule(choices: Choices, _: Scene) -> Request:
    """A schedule that does not run within a sequence."""
    named = {"id": choices.one(("s1", "s1", "s1", "s:1"))}
    cron = choices.one(("0 0 1 1 *", "0 0 25 12 *", "0 0 1 1 *", "no cron"))
    created = {**named, "cron": cron, "promiseId": "{{.timestamp}}", "promiseTimeout": 60_000}
    create = Request("schedule.create", {**created, "promiseTags": choices.one(({}, TARGET))})
    get, delete = Request("schedule.get", named), Request("schedule.delete", named)
    return choices.one((create, get, create, get, delete))


def incomplete(choices: Choices, scene: Scene) -> Request:
    """A request without one of its first three members, or with a negative version."""
    request = choices.one(tuple(one for one in REQUESTS if one is not promise_search))(choices, scene)
    assert isinstance(request, Request)
    if "version" in request.data and _seldom(choices):
        return Request(request.kind, {**request.data, "version": -1})
    left_out = choices.one(tuple(request.data)[:3])
    return Request(request.kind, {name: member for name, member in request.data.items() if name != left_out})


def misplaced(choices: Choices, scene: Scene) -> Request:
    """A task.create in a tree to which its id does not belong, or with a delay, or of a timer."""
    request = task_create(choices, scene)
    request.data["action"]["data"]["tags"] |= choices.one(MISPLACED)
    return request


def across(choices: Choices, scene: Scene) -> Request:
    """A request that combines a task with a promise that may belong to another tree."""
    request, other = choices.one((register_callback, task_fence, task_fence))(choices, scene), choices.one(IDS)
    if request.kind == "task.fence":
        request.data["action"]["data"]["id"] = other
        return request
    return Request(request.kind, {**request.data, "awaited": other})


def unknown(_: Choices, __: Scene) -> Request:
    return Request("promise.grow", {})


def wait(choices: Choices, _: Scene) -> Wait:
    return Wait(choices.one(PAUSES))


acquire = _with_a("pending", task_acquire, task_create)

REQUESTS: dict[Factory, int] = {
    promise_get: 2,
    promise_search: 2,
    promise_create: 10,
    promise_settle: 6,
    register_callback: 4,
    register_listener: 4,
    _of_task("task.get", "acquired", "suspended"): 5,
    task_create: 7,
    acquire: 14,
    _with_a("acquired", task_release, acquire): 4,
    _with_a("acquired", task_fulfill, acquire): 4,
    _with_a("acquired", task_suspend, acquire): 14,
    _with_a("acquired", task_fence, acquire): 9,
    task_heartbeat: 8,
    _of_task("task.halt", "acquired", "pending", "suspended"): 3,
    _of_task("task.continue", "halted"): 3,
    schedule: 6,
}
"""How often each occurs in 128 steps; the rest are odd requests and the passing of time."""

NEWEST: dict[Factory, int] = {misplaced: 1, across: 3, unknown: 1}
"""Requests that break only the rules of 0.10."""

ONE_BY_ONE = Menu({nothing: 1, **REQUESTS, **NEWEST, incomplete: 4, wait: 7, tick: 6})
AT_ONCE = Menu({**REQUESTS, promise_search: 0, acquire: 24, incomplete: 15})
"""For clients whose requests interleave: no searches, which see several trees at once."""
