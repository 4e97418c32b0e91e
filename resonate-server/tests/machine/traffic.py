"""Random requests over two trees of colliding ids, many of them deliberately odd."""

from differential.operations import (
    TARGETS,
    Choices,
    Factory,
    Menu,
    Operation,
    Request,
    Scene,
    World,
    nothing,
    promise_create,
    promise_get,
    promise_settle,
    promise_states,
    register_callback,
    register_listener,
    task_acquire,
    task_continue,
    task_create,
    task_fence,
    task_fulfill,
    task_get,
    task_halt,
    task_heartbeat,
    task_release,
    task_suspend,
    tick,
    wait,
)

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
)
"""Tags that the promise of a task.create must not have."""

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


def _tags(choices: Choices, _: Scene, id: str, __: int) -> dict[str, str]:
    lineage = {"resonate:origin": tree_of(id), "resonate:branch": choices.one((id, tree_of(id)))}
    return lineage | choices.one(MARKS)


TWO_TREES = World(
    trees=(("t1", "t1.a", "t1.b", "t1.a.x", "t1.a.y", "t1.c", "t1.d"), ("t2", "t2.a", "t2.b", "t2.c")),
    targets=(TARGETS[1], TARGETS[1], None),
    tags=_tags,
    lifetimes=(3_600_000, 3_600_000, 3_600_000, 60_000, 60_000, 5_000, 500, -5),
    # Most are a bit more than half a lease, which ends in the second such wait unless extended in between.
    pauses=(60, 500, 3_000, 31_000, 31_000),
    addresses=("poll://uni@callers/1", "poll://any@callers", "https://callers.example/", "poll://callers"),
    is_odd=True,
)


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
    create = Request("schedule.create", {**created, "promiseTags": choices.one(({}, {"resonate:target": TARGETS[1]}))})
    get, delete = Request("schedule.get", named), Request("schedule.delete", named)
    return choices.one((create, get, create, get, delete))


def incomplete(choices: Choices, scene: Scene) -> Request:
    """A request without one of its first three members, or with a negative version."""
    request = choices.one(tuple(one for one in REQUESTS if one is not promise_states))(choices, scene)
    assert isinstance(request, Request)
    if "version" in request.data and choices.seldom():
        return Request(request.kind, {**request.data, "version": -1})
    left_out = choices.one(tuple(request.data)[:3])
    return Request(request.kind, {name: member for name, member in request.data.items() if name != left_out})


def misplaced(choices: Choices, scene: Scene) -> Request:
    """A task.create in a tree to which its id does not belong, or with a delay."""
    request = task_create(choices, scene)
    request.data["action"]["data"]["tags"] |= choices.one(MISPLACED)
    return request


def across(choices: Choices, scene: Scene) -> Request:
    """A request that combines a task with a promise that may belong to another tree."""
    request, other = choices.one((register_callback, task_fence, task_fence))(choices, scene), choices.any_id()
    if request.kind == "task.fence":
        request.data["action"]["data"]["id"] = other
        return request
    return Request(request.kind, {**request.data, "awaited": other})


def unknown(_: Choices, __: Scene) -> Request:
    return Request("promise.grow", {})


acquire = _with_a("pending", task_acquire, task_create)

REQUESTS: dict[Factory, int] = {
    promise_get: 2,
    promise_states: 2,
    promise_create: 10,
    promise_settle: 6,
    register_callback: 4,
    register_listener: 4,
    task_get: 5,
    task_create: 7,
    acquire: 14,
    _with_a("acquired", task_release, acquire): 4,
    _with_a("acquired", task_fulfill, acquire): 4,
    _with_a("acquired", task_suspend, acquire): 14,
    _with_a("acquired", task_fence, acquire): 9,
    task_heartbeat: 8,
    task_halt: 3,
    task_continue: 3,
    schedule: 6,
}
"""How often each occurs in 128 steps; the rest are odd requests and the passing of time."""

NEWEST: dict[Factory, int] = {misplaced: 1, across: 3, unknown: 1}
"""Requests that break only the rules of 0.10."""

ONE_BY_ONE = Menu(TWO_TREES, {nothing: 1, **REQUESTS, **NEWEST, incomplete: 4, wait: 7, tick: 6})
AT_ONCE = Menu(TWO_TREES, {**REQUESTS, promise_states: 0, acquire: 24, incomplete: 15})
"""For clients whose requests interleave: no searches, which see several trees at once."""
