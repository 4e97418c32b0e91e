"""The published machine, written from its rules alone (docs/protocol.md, sections 2 to 4), to be read beside them.

A state is data that nobody changes. A request is an *external* step: one function of the same name each, which gives
the answer and the state after it. An *internal* step is one that the machine may make by itself at any time: the end
of a lease, the resuming of an awaiter. Deadlines need no step: everything reads a state by *projection*, where what
is past its deadline is settled (:func:`at`). An answer is *explained* if the machine gives it in some state in which
it may be (:func:`explain`). Order of checks: form (400), existence (404), state and version (409), obligations (422).

Not modelled: messages, and so dispatch and retries, which nothing but messages shows; ``task.search``; the firing of
schedules.
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
"""When a schedule next runs (ms) that is created in mid-November 2023. Any other expression counts as none."""


# --- states ---------------------------------------------------------------------------------------------------------


class Frozen[V](dict[str, V]):
    """A mapping that nobody changes: equal by what it holds, hashed likewise."""

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
    """``resumes``: the awaited promises that have settled since it was claimed. The lease is there while acquired."""

    version: int = 0
    state: str = PENDING
    resumes: frozenset[str] = frozenset()
    pid: str | None = None
    ttl: int = 0
    lease_ends: int = 0

    def idle(self, state: str, resumes: frozenset[str] | None = None) -> "Task":
        """Held by nobody; with other ``resumes`` if given."""
        return Task(version=self.version, state=state, resumes=self.resumes if resumes is None else resumes)


class State(Struct, frozen=True):
    """Promises, tasks and schedules by id; ``callbacks``: (awaited, awaiter) that have not resumed anybody yet."""

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
"""The state after a request, the answer's status and data. A refusal is raised, and changes nothing."""

type Step = Callable[[State, Json], Outcome]
type InternalSteps = Callable[[State, Iterable[str]], Iterator[State]]


class Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def found[T](things: dict[str, T], id: str) -> T:
    """Rule of *existence*."""
    if id not in things:
        raise Refused(404)
    return things[id]


def demand(truth: bool, status: int) -> None:
    if not truth:
        raise Refused(status)


# --- projection and internal steps ----------------------------------------------------------------------------------


def at(state: State, now: int) -> State:
    """*Projection*: the state as it reads at ``now``; what is past its deadline settled then, not when it is read."""
    state = replace(state, now=now)
    for id, promise in state.promises.items():
        if promise.state == PENDING and promise.timeout_at <= now:
            state = settled(state, id, promise.state_at_deadline, NOTHING, promise.timeout_at)
    return state


def settled(state: State, id: str, to: str, value: Frozen[Any], when: int) -> State:
    """Rule *settle*: a promise and its task in one step; who awaits it is resumed later."""
    promise = replace(state.promises[id], state=to, value=value, settled_at=when)
    callbacks = frozenset(pair for pair in state.callbacks if pair[1] != id)
    state = replace(state, promises=state.promises.put(id, promise), callbacks=callbacks)
    return state.put_task(id, state.tasks[id].idle(FULFILLED, frozenset())) if id in state.tasks else state


def lease_end(state: State, id: str) -> State:
    """Rule *lease end*: pending, same version."""
    return state.put_task(id, state.tasks[id].idle(PENDING))


def resume(state: State, awaited: str, awaiter: str) -> State:
    """Rule *resume*. A fulfilled awaiter, also one past its own deadline, has no callbacks any more."""
    task = state.tasks[awaiter]
    state = replace(state, callbacks=state.callbacks - {(awaited, awaiter)})
    if task.state == SUSPENDED:
        return state.put_task(awaiter, task.idle(PENDING, frozenset([awaited])))
    return state.put_task(awaiter, replace(task, resumes=task.resumes | {awaited}))


def lease_ends(state: State, ids: Iterable[str]) -> Iterator[State]:
    for id in ids:
        task = state.tasks.get(id)
        if task is not None and task.state == ACQUIRED and task.lease_ends <= state.now:
            yield lease_end(state, id)


def resumes(state: State, ids: Iterable[str]) -> Iterator[State]:
    for awaited, awaiter in state.callbacks:
        if awaiter in ids and state.is_settled(awaited):
            yield resume(state, awaited, awaiter)


def internal_steps(state: State, ids: Iterable[str]) -> Iterator[State]:
    """What may happen next to one of these tasks in a projected state."""
    yield from lease_ends(state, ids)
    yield from resumes(state, ids)


def may_have_become(state: State, ids: Iterable[str]) -> list[State]:
    """After any internal steps with these tasks. Steps with others change nothing for them, and can wait."""
    reached = [state]
    for before in reached:
        reached.extend(after for after in internal_steps(before, ids) if after not in reached)
    return reached


def must_have_become(state: State, steps: InternalSteps = internal_steps) -> State:
    """After all that are due; their order does not matter."""
    while (after := next(steps(state, state.tasks), None)) is not None:
        state = after
    return state


# --- form -----------------------------------------------------------------------------------------------------------

ADDRESS = re.compile(r"https?://.+|poll://(any|uni)@[^/]+(/.*)?")


class Rule(Struct, frozen=True):
    """``members`` must be there, and texts among them not empty; ``form`` says what else makes it a request at all."""

    members: tuple[str, ...]
    form: Callable[[Json], bool]
    step: Step

    def check_form(self, data: Json) -> None:
        demand(all(data.get(member) not in (None, "") for member in self.members), 400)
        demand(data.get("version", 0) >= 0 and data.get("ttl", 1) >= 1 and self.form(data), 400)


RULES: dict[str, Rule] = {}
"""By kind."""


def external(*members: str, form: Callable[[Json], bool] = lambda _: True) -> Callable[[Step], Step]:
    """The external step of the kind that the function is named after."""

    def enter(step: Step) -> Step:
        RULES[step.__name__.replace("_", ".", 1)] = Rule(members, form, step)
        return step

    return enter


def form_of_settle(data: Json) -> bool:
    """Nobody but the deadline times a promise out."""
    return data["state"] in SETTLEMENTS


def form_of_callback(data: Json) -> bool:
    return bool(data["awaited"] != data["awaiter"])


def form_of_listener(data: Json) -> bool:
    return ADDRESS.fullmatch(data["address"]) is not None


def form_of_schedule(data: Json) -> bool:
    return data["cron"] in NEXT_RUN and ":" not in data["id"]


def form_of_create(data: Json) -> bool:
    tags = data.get("tags", {})
    target, delay = tags.get("resonate:target"), tags.get("resonate:delay")
    addressed = target is None or ADDRESS.fullmatch(target) is not None
    delayed = delay is None or (target is not None and delay.isdigit() and int(delay) < data["timeoutAt"])
    return data["timeoutAt"] >= 0 and addressed and delayed and fits_its_tree(data["id"], tags)


def fits_its_tree(id: str, tags: Json) -> bool:
    """Rules of 0.10: an id begins with its origin, parent and branch (then ``:``, or ``.``: tolerated)."""
    relatives = [tags[tag] for tag in ("resonate:origin", "resonate:parent", "resonate:branch") if tag in tags]
    plain = [tags[tag] for tag in ("resonate:origin", "resonate:prefix") if tag in tags]
    return all(id == name or id.startswith((f"{name}:", f"{name}.")) for name in relatives) and ":" not in "".join(
        plain
    )


def form_of_task_create(data: Json) -> bool:
    """Without delay, a rule of 0.10. (The machine has no timers with a target: tolerated.)"""
    promise = data["action"]["data"]
    tags = promise.get("tags", {})
    return "resonate:target" in tags and "resonate:delay" not in tags and form_of_create(promise)


def form_of_suspend(data: Json) -> bool:
    """Some id, none twice, not the task's own."""
    named = [action["data"]["awaited"] for action in data["actions"]]
    return 0 < len(named) == len(set(named)) and data["id"] not in named


def form_of_fence(data: Json) -> bool:
    """An action on another promise, well-formed itself."""
    action: Json = data["action"]
    other: bool = action["kind"] in ("promise.create", "promise.settle") and data["id"] != action["data"]["id"]
    return other and RULES[action["kind"]].form(action["data"])


def form_of_fulfill(data: Json) -> bool:
    settlement: Json = data["action"]["data"]
    return data["id"] == settlement["id"] and form_of_settle(settlement)


# --- external steps: promises ---------------------------------------------------------------------------------------


@external("id")
def promise_get(state: State, data: Json) -> Outcome:
    return state, 200, {"promise": promise_record(state, data["id"])}


@external("id", "timeoutAt", form=form_of_create)
def promise_create(state: State, data: Json) -> Outcome:
    """What exists is answered as it is. Born past its deadline: settled then, its task fulfilled."""
    id = data["id"]
    if id not in state.promises:
        born = min(state.now, data["timeoutAt"])
        promise = Promise(data["timeoutAt"], born, frozen(data.get("param", {})), frozen(data.get("tags", {})))
        state = replace(state, promises=state.promises.put(id, promise))
        state = at(state.put_task(id, Task()) if promise.has_target else state, state.now)
    return promise_get(state, data)


@external("id", "state", form=form_of_settle)
def promise_settle(state: State, data: Json) -> Outcome:
    """The first settlement stands."""
    if not state.is_settled(data["id"]):
        state = settled(state, data["id"], data["state"], frozen(data.get("value", {})), state.now)
    return promise_get(state, data)


@external("awaited", "awaiter", form=form_of_callback)
def promise_register_callback(state: State, data: Json) -> Outcome:
    awaited, awaiter = data["awaited"], data["awaiter"]
    demand(state.promise(awaited).is_external and awaiter in state.tasks, 422)
    if not state.is_settled(awaited) and not state.is_settled(awaiter):
        state = replace(state, callbacks=state.callbacks | {(awaited, awaiter)})
    return promise_get(state, {"id": awaited})


@external("awaited", "address", form=form_of_listener)
def promise_register_listener(state: State, data: Json) -> Outcome:
    demand(state.promise(data["awaited"]).is_external, 422)
    return promise_get(state, {"id": data["awaited"]})


@external()
def promise_search(state: State, data: Json) -> Outcome:
    """Not specified; here it reads by projection, as everything does."""
    records = [promise_record(state, id) for id in sorted(state.promises)]
    return state, 200, {"promises": [one for one in records if data.get("state", one["state"]) == one["state"]]}


# --- external steps: tasks ------------------------------------------------------------------------------------------


@external("id")
def task_get(state: State, data: Json) -> Outcome:
    return state, 200, {"task": task_record(state, data["id"])}


@external("pid", "ttl", "action", form=form_of_task_create)
def task_create(state: State, data: Json) -> Outcome:
    promise = data["action"]["data"]
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
    """Pending: acquired at the next version, ``resumes`` cleared."""
    version, ttl = state.tasks[id].version + 1, data["ttl"]
    task = Task(version=version, state=ACQUIRED, pid=data["pid"], ttl=ttl, lease_ends=state.now + ttl)
    return claim_answer(state.put_task(id, task), id)


def claim_answer(state: State, id: str) -> Outcome:
    return state, 200, {"task": task_record(state, id), "promise": promise_record(state, id)}


def held(state: State, data: Json) -> Task:
    """What a worker writes is fenced: the task is acquired, at the version that it names."""
    task = state.task(data["id"])
    demand(task.state == ACQUIRED and task.version == data["version"], 409)
    return task


@external("id", "version")
def task_release(state: State, data: Json) -> Outcome:
    return state.put_task(data["id"], held(state, data).idle(PENDING)), 200, {}


@external("id", "version", "action", form=form_of_fulfill)
def task_fulfill(state: State, data: Json) -> Outcome:
    held(state, data)
    return promise_settle(state, data["action"]["data"])


@external("id", "version", "actions", form=form_of_suspend)
def task_suspend(state: State, data: Json) -> Outcome:
    task, id = held(state, data), data["id"]
    awaited = [action["data"]["awaited"] for action in data["actions"]]
    demand(all(one in state.promises and state.promises[one].is_external for one in awaited), 422)
    if any(state.is_settled(one) for one in awaited):
        return state.put_task(id, replace(task, resumes=frozenset())), 300, {}
    state = replace(state, callbacks=state.callbacks | {(one, id) for one in awaited})
    return state.put_task(id, task.idle(SUSPENDED, frozenset())), 200, {}


@external("id", "version", "action", form=form_of_fence)
def task_fence(state: State, data: Json) -> Outcome:
    """The inner answer carries its own status."""
    held(state, data)
    kind = data["action"]["kind"]
    try:
        state, status, answer = RULES[kind].step(state, data["action"]["data"])
    except Refused as refused:
        return state, 200, {"action": {"kind": kind, "status": refused.status}}
    return state, 200, {"action": {"kind": kind, "status": status, **answer}}


@external("pid", "tasks")
def task_heartbeat(state: State, data: Json) -> Outcome:
    """Extends what is acquired, at the same version, by the same process; always 200."""
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


# --- external steps: schedules --------------------------------------------------------------------------------------


@external("id")
def schedule_get(state: State, data: Json) -> Outcome:
    return state, 200, {"schedule": found(state.schedules, data["id"])}


@external("id", "cron", "promiseId", "promiseTimeout", form=form_of_schedule)
def schedule_create(state: State, data: Json) -> Outcome:
    """What exists is answered as it is. The tags are free."""
    if data["id"] not in state.schedules:
        times: Json = {"createdAt": state.now, "nextRunAt": NEXT_RUN[data["cron"]]}
        record = frozen({"promiseParam": {}, "promiseTags": {}, **data, **times})
        state = replace(state, schedules=state.schedules.put(data["id"], record))
    return schedule_get(state, data)


@external("id")
def schedule_delete(state: State, data: Json) -> Outcome:
    found(state.schedules, data["id"])
    return replace(state, schedules=Frozen({k: v for k, v in state.schedules.items() if k != data["id"]})), 200, {}


# --- external steps: time by hand -----------------------------------------------------------------------------------


@external()
def debug_reset(state: State, _: Json) -> Outcome:
    return State(now=state.now), 200, {}


@external("time")
def debug_tick(state: State, _: Json) -> Outcome:
    """What may happen has happened."""
    return must_have_become(state), 200, {}


# --- records, and what explains an answer ---------------------------------------------------------------------------


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
    """``now``: the time (ms) at which it is worked off."""

    now: int
    kind: str
    data: Json

    @property
    def ids(self) -> set[str]:
        """All that it names, but for those that it awaits besides others."""
        named = [self.data, self.data.get("action", {}).get("data", {}), *self.data.get("tasks", [])]
        return {one[name] for one in named for name in ("id", "awaited", "awaiter") if name in one}


class Answer(Struct, frozen=True):
    status: int
    data: Any


def answer_to(state: State, request: Request) -> tuple[State, Answer]:
    """What the machine does if it has made its internal steps."""
    try:
        demand(request.kind in RULES, 501)
        RULES[request.kind].check_form(request.data)
        after, status, data = RULES[request.kind].step(state, request.data)
    except Refused as refused:
        return state, Answer(refused.status, None)
    return after, Answer(status, data)


def possible(states: Iterable[State], request: Request) -> Iterator[tuple[State, Answer]]:
    """What the machine may answer, and become."""
    for state in states:
        for before in may_have_become(at(state, request.now), request.ids):
            yield answer_to(before, request)


def explain(states: Iterable[State], request: Request, answer: Answer) -> list[State]:
    """The states in which the machine may be after it gave ``answer``; none if it cannot have given it."""
    seen = comparable(answer)
    explained: list[State] = []
    for after, given in possible(states, request):
        if given == seen and preload_is_true(after, answer) and after not in explained:
            explained.append(after)
    return explained


def comparable(answer: Answer) -> Answer:
    """Without what the rules leave open: messages for people, preload, what a task's record has besides."""
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
    """What is preloaded is left open, but not how it reads."""
    preload = dict(answer.data).get("preload", []) if answer.status < 400 else []
    return all(one["id"] in state.promises and one == promise_record(state, one["id"]) for one in preload)
