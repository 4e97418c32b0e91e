"""The published state machine, written from its rules alone (docs/protocol.md, sections 2 to 4); read it beside them.

States are immutable. A request is an *external* step: a function named after its kind, which returns the answer and
the next state. An *internal* step is one that the machine may take by itself at any time: the end of a lease, the
resumption of an awaiter. Deadlines need no step: every read is a *projection*, in which promises past their deadline
are settled (:func:`at`). An answer is *explained* if the machine gives it in one of the states it may be in
(:func:`explain`). Order of checks: form (400), existence (404), state and version (409), obligations (422).

Not modelled: messages, and so neither dispatch nor retries, which show only in messages; ``task.search``; the firing
of schedules.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

type Json = dict[str, Any]

PENDING, ACQUIRED, SUSPENDED, HALTED, FULFILLED = "pending", "acquired", "suspended", "halted", "fulfilled"
SETTLEMENTS = ("resolved", "rejected", "rejected_canceled")
NEXT_RUN = {"0 0 1 1 *": 1_704_067_200_000, "0 0 25 12 *": 1_703_462_400_000}
"""Next run (ms) of a schedule created in mid-November 2023. Any other expression counts as invalid."""


# --- states ---------------------------------------------------------------------------------------------------------


class Frozen[V](dict[str, V]):
    """An immutable mapping, compared and hashed by its items."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def put(self, key: str, value: V) -> Self:
        return type(self)({**self, key: value})


def frozen(value: Any) -> Any:
    return Frozen({key: frozen(member) for key, member in value.items()}) if isinstance(value, dict) else value


NOTHING: Frozen[Any] = Frozen()


class Promise(Struct, frozen=True):
    timeout_at: int
    created_at: int
    param: Frozen[Any]
    tags: Frozen[str]
    state: str = PENDING
    value: Frozen[Any] = NOTHING
    settled_at: int | None = None

    @property
    def is_timer(self) -> bool:
        return self.tags.get("resonate:timer") == "true"

    @property
    def has_target(self) -> bool:
        return "resonate:target" in self.tags

    @property
    def is_external(self) -> bool:
        """Rule *external promise*, with the tolerance for a global scope."""
        marks = {"resonate:external": "true", "resonate:scope": "global"}
        return self.has_target or self.is_timer or any(self.tags.get(tag) == text for tag, text in marks.items())

    @property
    def state_at_deadline(self) -> str:
        return "resolved" if self.is_timer else "rejected_timedout"


class Task(Struct, frozen=True):
    """``resumes``: the awaited promises that have settled since the last claim. Only an acquired task has a lease."""

    version: int = 0
    state: str = PENDING
    resumes: frozenset[str] = frozenset()
    pid: str | None = None
    ttl: int = 0
    lease_ends: int = 0

    def idle(self, state: str, resumes: frozenset[str] | None = None) -> "Task":
        """Return the task without a holder, with other ``resumes`` if given."""
        return Task(version=self.version, state=state, resumes=self.resumes if resumes is None else resumes)


class State(Struct, frozen=True):
    """Promises, tasks and schedules by id; ``callbacks``: pairs (awaited, awaiter) that have not fired yet."""

    now: int = 0
    promises: Frozen[Promise] = NOTHING
    tasks: Frozen[Task] = NOTHING
    callbacks: frozenset[tuple[str, str]] = frozenset()
    schedules: Frozen[Json] = NOTHING

    def promise(self, id: str) -> Promise:
        return found(self.promises, id)

    def task(self, id: str) -> Task:
        return found(self.tasks, id)

    def put_task(self, id: str, task: Task) -> "State":
        return replace(self, tasks=self.tasks.put(id, task))

    def is_settled(self, id: str) -> bool:
        return self.promise(id).state != PENDING


type Outcome = tuple[State, int, Json]
"""The state after a request, and the answer's status and data. A refusal is raised and changes nothing."""

type Step = Callable[[State, Json], Outcome]
type InternalSteps = Callable[[State, Iterable[str]], Iterator[State]]


class Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def found[T](things: dict[str, T], id: str) -> T:
    """Rule *existence*."""
    if id not in things:
        raise Refused(404)
    return things[id]


def demand(truth: bool, status: int) -> None:
    if not truth:
        raise Refused(status)


# --- projection and internal steps ----------------------------------------------------------------------------------


def at(state: State, now: int) -> State:
    """*Projection*: the state as read at ``now``. An expired promise settles at its deadline, not when it is read."""
    state = replace(state, now=now)
    for id, promise in state.promises.items():
        if promise.state == PENDING and promise.timeout_at <= now:
            state = settled(state, id, promise.state_at_deadline, NOTHING, promise.timeout_at)
    return state


def settled(state: State, id: str, to: str, value: Frozen[Any], when: int) -> State:
    """Rule *settle*: a promise and its task in one step; awaiters resume later."""
    promise = replace(state.promises[id], state=to, value=value, settled_at=when)
    callbacks = frozenset(pair for pair in state.callbacks if pair[1] != id)
    state = replace(state, promises=state.promises.put(id, promise), callbacks=callbacks)
    return state.put_task(id, state.tasks[id].idle(FULFILLED, frozenset())) if id in state.tasks else state


def resume(state: State, awaited: str, awaiter: str) -> State:
    """Rule *resume*. A fulfilled awaiter, including one past its own deadline, has no callbacks left."""
    task = state.tasks[awaiter]
    state = replace(state, callbacks=state.callbacks - {(awaited, awaiter)})
    if task.state == SUSPENDED:
        return state.put_task(awaiter, task.idle(PENDING, frozenset([awaited])))
    return state.put_task(awaiter, replace(task, resumes=task.resumes | {awaited}))


def lease_ends(state: State, ids: Iterable[str]) -> Iterator[State]:
    """Rule *lease end*: pending, same version."""
    for id in ids:
        task = state.tasks.get(id)
        if task is not None and task.state == ACQUIRED and task.lease_ends <= state.now:
            yield state.put_task(id, task.idle(PENDING))


def resumes(state: State, ids: Iterable[str]) -> Iterator[State]:
    for awaited, awaiter in sorted(state.callbacks):
        if awaiter in ids and state.is_settled(awaited):
            yield resume(state, awaited, awaiter)


def internal_steps(state: State, ids: Iterable[str]) -> Iterator[State]:
    """Yield each state that one internal step of these tasks may lead to from a projected state."""
    yield from lease_ends(state, ids)
    yield from resumes(state, ids)


def may_have_become(state: State, ids: Iterable[str]) -> list[State]:
    """Return the states after any internal steps of these tasks. Steps of others do not affect them and can wait."""
    reached = [state]
    for before in reached:
        reached.extend(after for after in internal_steps(before, ids) if after not in reached)
    return reached


def must_have_become(state: State, steps: InternalSteps = internal_steps) -> State:
    """Return the state after all internal steps that are due; their order does not matter."""
    while (after := next(steps(state, state.tasks), None)) is not None:
        state = after
    return state


# --- external steps: promises ---------------------------------------------------------------------------------------

RULES: dict[str, Step] = {}
"""The external steps by kind."""


def external(*members: str) -> Callable[[Step], Step]:
    """Register the function as the external step of the kind it is named after.

    The given members must be present and not empty.
    """

    def enter(step: Step) -> Step:
        def checked(state: State, data: Json) -> Outcome:
            demand(all(data.get(member) not in (None, "") for member in members), 400)
            demand("version" not in members or data["version"] >= 0, 400)
            return step(state, data)

        RULES[step.__name__.replace("_", ".", 1)] = checked
        return step

    return enter


@external("id")
def promise_get(state: State, data: Json) -> Outcome:
    return state, 200, {"promise": promise_record(state, data["id"])}


@external()
def promise_search(state: State, data: Json) -> Outcome:
    """Not specified; here it reads by projection, like everything else."""
    records = [promise_record(state, id) for id in sorted(state.promises)]
    return state, 200, {"promises": [one for one in records if data.get("state", one["state"]) == one["state"]]}


@external("id", "timeoutAt")
def promise_create(state: State, data: Json) -> Outcome:
    """An existing promise is returned unchanged. One created past its deadline is settled then, its task fulfilled."""
    check_promise(data)
    id = data["id"]
    if id not in state.promises:
        born = min(state.now, data["timeoutAt"])
        promise = Promise(data["timeoutAt"], born, frozen(data.get("param", {})), frozen(data.get("tags", {})))
        state = replace(state, promises=state.promises.put(id, promise))
        state = at(state.put_task(id, Task()) if promise.has_target else state, state.now)
    return promise_get(state, data)


def check_promise(data: Json) -> None:
    """Check the rules of form. Since 0.10 an id begins with its origin, parent and branch, then ``:`` (``.`` is
    tolerated)."""
    tags = data.get("tags", {})
    demand("resonate:target" not in tags or is_address(tags["resonate:target"]), 400)
    origin = tags.get("resonate:origin")
    for name in ("resonate:origin", "resonate:parent", "resonate:branch"):
        is_beside = name == "resonate:parent" and origin is not None and is_below(tags.get(name, ""), origin)
        demand(name not in tags or is_below(data["id"], tags[name]) or is_beside, 400)
    demand(":" not in tags.get("resonate:origin", "") + tags.get("resonate:prefix", ""), 400)


def is_below(id: str, ancestor: str) -> bool:
    return id == ancestor or id.startswith((f"{ancestor}:", f"{ancestor}."))


def is_address(text: str) -> bool:
    return re.fullmatch(r"https?://.+|poll://(any|uni)@[^/]+(/.*)?", text) is not None


@external("id", "state")
def promise_settle(state: State, data: Json) -> Outcome:
    """The first settlement stands."""
    demand(data["state"] in SETTLEMENTS, 400)
    if not state.is_settled(data["id"]):
        state = settled(state, data["id"], data["state"], frozen(data.get("value", {})), state.now)
    return promise_get(state, data)


@external("awaited", "awaiter")
def promise_register_callback(state: State, data: Json) -> Outcome:
    """The callback is recorded only if both are pending."""
    awaited, awaiter = data["awaited"], data["awaiter"]
    demand(awaited != awaiter, 400)
    demand(state.promise(awaited).is_external and awaiter in state.tasks, 422)
    demand(in_reach(state, awaiter, awaited), 422)
    if not state.is_settled(awaited) and not state.is_settled(awaiter):
        state = replace(state, callbacks=state.callbacks | {(awaited, awaiter)})
    return promise_get(state, {"id": awaited})


def in_reach(state: State, caller: str, id: str) -> bool:
    """Rule of 0.10: both have the same origin, if they name one. (The root of another tree, and a tree whose root is
    the caller, are tolerated.)"""
    ours, theirs = (state.promise(one).tags.get("resonate:origin") for one in (caller, id))
    return ours is None or theirs in (ours, id, caller, None)


@external("awaited", "address")
def promise_register_listener(state: State, data: Json) -> Outcome:
    demand(is_address(data["address"]), 400)
    demand(state.promise(data["awaited"]).is_external, 422)
    return promise_get(state, {"id": data["awaited"]})


# --- external steps: tasks ------------------------------------------------------------------------------------------


@external("id")
def task_get(state: State, data: Json) -> Outcome:
    return state, 200, {"task": task_record(state, data["id"])}


@external("pid", "ttl", "action")
def task_create(state: State, data: Json) -> Outcome:
    """Create a promise and claim its task."""
    promise = data["action"]["data"]
    demand("resonate:target" in promise["tags"] and "resonate:delay" not in promise["tags"], 400)
    demand(promise["tags"].get("resonate:timer") != "true", 400)
    state, _, _ = promise_create(state, promise)
    demand(promise["id"] in state.tasks, 422)
    task = state.task(promise["id"])
    demand(task.state in (PENDING, FULFILLED), 409)
    return claimed(state, promise["id"], data) if task.state == PENDING else claim_answer(state, promise["id"])


@external("id", "version", "pid", "ttl")
def task_acquire(state: State, data: Json) -> Outcome:
    task = state.task(data["id"])
    demand(task.state == PENDING and task.version == data["version"], 409)
    return claimed(state, data["id"], data)


def claimed(state: State, id: str, data: Json) -> Outcome:
    """A pending task is acquired at the next version, and its ``resumes`` are cleared."""
    version, ttl = state.tasks[id].version + 1, data["ttl"]
    task = Task(version=version, state=ACQUIRED, pid=data["pid"], ttl=ttl, lease_ends=state.now + ttl)
    return claim_answer(state.put_task(id, task), id)


def claim_answer(state: State, id: str) -> Outcome:
    return state, 200, {"task": task_record(state, id), "promise": promise_record(state, id)}


def held(state: State, data: Json) -> Task:
    """A worker's writes are fenced: the task must be acquired at the version that the request names."""
    task = state.task(data["id"])
    demand(task.state == ACQUIRED and task.version == data["version"], 409)
    return task


@external("id", "version")
def task_release(state: State, data: Json) -> Outcome:
    return state.put_task(data["id"], held(state, data).idle(PENDING)), 200, {}


@external("id", "version", "action")
def task_fulfill(state: State, data: Json) -> Outcome:
    settlement = data["action"]["data"]
    demand(settlement["id"] == data["id"] and settlement["state"] in SETTLEMENTS, 400)
    held(state, data)
    return promise_settle(state, settlement)


@external("id", "version", "actions")
def task_suspend(state: State, data: Json) -> Outcome:
    id, awaited = data["id"], [action["data"]["awaited"] for action in data["actions"]]
    demand(0 < len(awaited) == len(set(awaited)) and id not in awaited, 400)
    task = held(state, data)
    for one in awaited:
        demand(one in state.promises and state.promise(one).is_external and in_reach(state, id, one), 422)
    if any(state.is_settled(one) for one in awaited):
        return state.put_task(id, replace(task, resumes=frozenset())), 300, {}
    state = replace(state, callbacks=state.callbacks | {(one, id) for one in awaited})
    return state.put_task(id, task.idle(SUSPENDED, frozenset())), 200, {}


@external("id", "version", "action")
def task_fence(state: State, data: Json) -> Outcome:
    """Create or settle another promise of the tree; the inner answer carries its own status."""
    id, kind, inner = data["id"], data["action"]["kind"], data["action"]["data"]
    demand(kind in ("promise.create", "promise.settle") and inner["id"] != id, 400)
    if kind == "promise.create":
        check_promise(inner)
        demand(is_below(id, inner["tags"]["resonate:origin"]) or inner["tags"]["resonate:origin"] == inner["id"], 400)
    demand(inner.get("state", SETTLEMENTS[0]) in SETTLEMENTS, 400)
    held(state, data)
    demand(inner["id"] not in state.promises or in_reach(state, id, inner["id"]), 422)
    try:
        state, status, answer = RULES[kind](state, inner)
    except Refused as refused:
        status, answer = refused.status, {}
    return state, 200, {"action": {"kind": kind, "status": status, **answer}}


@external("pid", "tasks")
def task_heartbeat(state: State, data: Json) -> Outcome:
    """Extend the leases of tasks acquired at the same version by the same process; always 200."""
    for named in data["tasks"]:
        task = state.tasks.get(named["id"])
        if task is not None and (task.state, task.version, task.pid) == (ACQUIRED, named["version"], data["pid"]):
            state = state.put_task(named["id"], replace(task, lease_ends=state.now + task.ttl))
    return state, 200, {}


@external("id")
def task_halt(state: State, data: Json) -> Outcome:
    task = state.task(data["id"])
    demand(task.state != FULFILLED, 409)
    return state.put_task(data["id"], task.idle(HALTED)), 200, {}


@external("id")
def task_continue(state: State, data: Json) -> Outcome:
    task = state.task(data["id"])
    demand(task.state == HALTED, 409)
    return state.put_task(data["id"], task.idle(PENDING)), 200, {}


# --- external steps: schedules, and time by hand --------------------------------------------------------------------


@external("id")
def schedule_get(state: State, data: Json) -> Outcome:
    return state, 200, {"schedule": found(state.schedules, data["id"])}


@external("id", "cron", "promiseId", "promiseTimeout")
def schedule_create(state: State, data: Json) -> Outcome:
    """An existing schedule is returned unchanged. Tags are free: without a target its promises have no task."""
    demand(data["cron"] in NEXT_RUN and ":" not in data["id"], 400)
    if data["id"] not in state.schedules:
        times: Json = {"createdAt": state.now, "nextRunAt": NEXT_RUN[data["cron"]]}
        record = frozen({"promiseParam": {}, "promiseTags": {}, **data, **times})
        state = replace(state, schedules=state.schedules.put(data["id"], record))
    return schedule_get(state, data)


@external("id")
def schedule_delete(state: State, data: Json) -> Outcome:
    found(state.schedules, data["id"])
    return replace(state, schedules=Frozen({k: v for k, v in state.schedules.items() if k != data["id"]})), 200, {}


@external()
def debug_reset(state: State, _: Json) -> Outcome:
    return State(now=state.now), 200, {}


@external("time")
def debug_tick(state: State, _: Json) -> Outcome:
    """All internal steps that are due are taken."""
    return must_have_become(state), 200, {}


# --- records, and explanations of answers ---------------------------------------------------------------------------


def promise_record(state: State, id: str) -> Json:
    promise = state.promise(id)
    record: Json = {"id": id, "state": promise.state, "param": promise.param, "value": promise.value}
    record |= {"tags": promise.tags, "timeoutAt": promise.timeout_at, "createdAt": promise.created_at}
    return record if promise.settled_at is None else {**record, "settledAt": promise.settled_at}


def task_record(state: State, id: str) -> Json:
    task = state.task(id)
    record: Json = {"id": id, "state": task.state, "version": task.version, "resumes": len(task.resumes)}
    return {**record, "ttl": task.ttl, "pid": task.pid} if task.state == ACQUIRED else record


class Request(Struct, frozen=True):
    """``now``: the time (ms) at which it is processed."""

    now: int
    kind: str
    data: Json

    @property
    def ids(self) -> set[str]:
        """All ids that it names, except those in a list of awaited promises."""
        named = [self.data, self.data.get("action", {}).get("data", {}), *self.data.get("tasks", [])]
        return {one[name] for one in named for name in ("id", "awaited", "awaiter") if name in one}


class Answer(Struct, frozen=True):
    status: int
    data: Any


def answer_to(state: State, request: Request) -> tuple[State, Answer]:
    """Return the next state and the answer, given that the internal steps have been taken."""
    try:
        demand(request.kind in RULES, 501)
        after, status, data = RULES[request.kind](state, request.data)
    except Refused as refused:
        return state, Answer(refused.status, None)
    return after, Answer(status, data)


def possible(states: Iterable[State], request: Request) -> Iterator[tuple[State, Answer]]:
    """Yield the answers that the machine may give, each with the state after it."""
    for state in states:
        for before in may_have_become(at(state, request.now), request.ids):
            yield answer_to(before, request)


def explain(states: Iterable[State], request: Request, answer: Answer) -> list[State]:
    """Return the states the machine may be in after giving ``answer``; none if it cannot have given it."""
    seen = comparable(answer)
    explained: list[State] = []
    for after, given in possible(states, request):
        if given == seen and preload_is_true(after, answer) and after not in explained:
            explained.append(after)
    return explained


def comparable(answer: Answer) -> Answer:
    """Return ``answer`` without what the rules leave open: error messages, preload, extra members of task records."""
    if answer.status >= 400:
        return Answer(answer.status, None)
    data = {key: member for key, member in dict(answer.data).items() if key != "preload"}
    if "task" in data:
        data["task"] = {key: member for key, member in data["task"].items() if key not in ("unclaimed", "releases")}
    if "action" in data:
        inner, status = data["action"], data["action"]["head"]["status"]
        data["action"] = {"kind": inner["kind"], "status": status, **(inner["data"] if status < 400 else {})}
    return Answer(answer.status, data)


def preload_is_true(state: State, answer: Answer) -> bool:
    """The rules leave open which promises are preloaded, but not how each one reads."""
    preload = dict(answer.data).get("preload", []) if answer.status < 400 else []
    return all(one["id"] in state.promises and one == promise_record(state, one["id"]) for one in preload)
