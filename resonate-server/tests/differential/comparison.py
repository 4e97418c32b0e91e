"""Run one sequence of operations on our kernel and the official server, and compare all that shows after each step."""

import json
from collections import Counter
from collections.abc import Awaitable, Generator, Iterator
from types import coroutine
from typing import Any

import msgspec
from differential.differences import Differs
from differential.kernel import Kernel, Reply, body_of
from differential.operations import OFFICIAL, START, Request, Tick, Wait
from msgspec import Struct, field
from resonate.connections.local import DurablePromise, LocalConnection, OutgoingMessage, ServerState
from resonate.connections.local import Task as OfficialTask
from unwaiting import finish

from resonate_server.kernel.model import Rules, Task
from resonate_server.protocol.messages import Execute, Message
from resonate_server.protocol.records import TaskState
from resonate_server.store.sqlite import Database

TIMER_TYPES = {TaskState.PENDING: 0, TaskState.ACQUIRED: 1}
ACCEPTING = {"task.acquire": "pending", "task.release": "acquired"}
ACCEPTING |= {"task.fulfill": "acquired", "task.suspend": "acquired"}


class Official:
    """The official SDK's in-process server, driven step by step.

    Requests go through its ``send``, time through its clock. Its coroutines never really wait, so they are run by hand,
    without an event loop or real time. Messages are captured where it dispatches them, because its receivers do not get
    the addresses.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.sent: list[OutgoingMessage] = []
        self._connection = LocalConnection(clock=lambda: self.now, sleeper=_until_next_tick)
        self._connection._dispatch_messages = self.sent.extend  # type: ignore[method-assign, assignment]
        self._ticks = self._connection._tick_loop()

    @property
    def state(self) -> ServerState:
        return self._connection.state

    def call(self, kind: str, data: dict[str, Any]) -> Reply:
        head = {"corrId": "differential", "version": "2026-04-01"}
        envelope = json.loads(finish(self._connection.send(json.dumps({"kind": kind, "head": head, "data": data}))))
        return Reply(status=envelope["head"]["status"], data=envelope["data"])

    def tick(self) -> None:
        self._ticks.send(None)

    def close(self) -> None:
        self._ticks.close()


@coroutine
def _pause() -> Generator[None]:
    yield


def _until_next_tick(_: float) -> Awaitable[None]:
    return _pause()


class Tally(Struct):
    steps: int = 0
    succeeded: Counter[str] = field(default_factory=Counter)
    met: Counter[Differs] = field(default_factory=Counter)


class Detour(Struct):
    """Send ``requests`` to the official server in place of the drawn one. Compare its last answer or, if
    ``our_status`` is given, only check our status."""

    requests: list[tuple[str, dict[str, Any]]]
    our_status: int | None = None


class Comparison:
    """A fresh pair of servers. ``store``: our store, if not in memory."""

    def __init__(self, tally: Tally, store: Database | None = None) -> None:
        self.tally = tally
        self.now = START
        self.ours = Kernel(Rules(release_pause_ms=0), store=store)
        self.theirs = Official(START)
        self.history: list[str] = []
        self.met(Differs.RELEASE_PAUSE)

    def close(self) -> None:
        self.theirs.close()

    def met(self, difference: Differs) -> None:
        self.tally.met[difference] += 1

    def step(self, number: int) -> None:
        """Decode and run one operation. Raises ``AssertionError`` if the two differ."""
        operation = OFFICIAL.decode(number, self.ours.scene(self.now))
        if operation is None:
            return
        self.tally.steps += 1
        match operation:
            case Wait(ms=ms):
                self.history.append(f"{ms} ms pass")
                self.now += ms
                self.theirs.now = self.now
            case Tick():
                self.history.append("tick")
                self.tick()
            case Request():
                self.request(operation)
        self.compare_state()

    # --- operations -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        self.ours.tick(self.now)
        self.theirs.tick()
        for promise in list(self.theirs.state.promises.values()):
            if self.is_expired(promise) and not self.is_internal(promise.id):
                self.met(Differs.SWEEP_TARGETS_ONLY)
                self.theirs.call("promise.get", {"id": promise.id})

    def request(self, request: Request) -> None:
        detour = self.detour(request)
        data = request.data_for(self.ours.version)
        ours = self.ours.call(body_of(request.kind, data, self.now, "differential"))
        self.history.append(f"{request.kind} {data} -> {ours.status}")
        if detour is None:
            detour = Detour([(request.kind, request.data_for(self.their_version))])
        theirs = [self.theirs.call(kind, their_data) for kind, their_data in detour.requests]
        if detour.our_status is not None:
            assert ours.status == detour.our_status, ours
        else:
            self.compare_answers(request, ours, theirs[-1])

    def their_version(self, id: str) -> int:
        return self.theirs.state.tasks[id].version if id in self.theirs.state.tasks else 0

    # --- requests that the official server answers in its own way ---------------------------------------------------

    def detour(self, request: Request) -> Detour | None:
        if request.kind == "promise.register_listener" and self.is_internal(request.data["awaited"]):
            self.met(Differs.INTERNAL_AWAITED)
            return Detour([("promise.get", {"id": request.data["awaited"]})], our_status=422)
        if request.kind == "task.suspend" and len(_awaited(request)) < len(request.data["actions"]):
            self.met(Differs.SUSPEND_TWICE)
            return Detour([], our_status=400)
        if request.kind in ACCEPTING and self.would_accept(request):
            return self.version_detour(request) or self.suspend_detour(request)
        return None

    def would_accept(self, request: Request) -> bool:
        """Return whether the official server would accept the request, judged by the task's state alone."""
        id = request.data["id"]
        task = self.theirs.state.tasks.get(id)
        if task is None or self.is_expired(self.theirs.state.promises[id]):
            return False
        return task.state == ACCEPTING[request.kind]

    def version_detour(self, request: Request) -> Detour | None:
        if request.relative is None or request.relative.off == 0:
            return None
        self.met(Differs.VERSION_UNCHECKED)
        return Detour(_reads(request), our_status=409)

    def suspend_detour(self, request: Request) -> Detour | None:
        if request.kind != "task.suspend":
            return None
        known = self.theirs.state.promises
        awaited = _awaited(request)
        if any(id not in known for id in awaited):
            self.met(Differs.SUSPEND_ON_MISSING)
            return Detour(_reads(request), our_status=422)
        if any(self.is_internal(id) for id in awaited):
            self.met(Differs.INTERNAL_AWAITED)
            return Detour(_reads(request), our_status=422)
        settled = [id for id in awaited if known[id].state != "pending" or self.is_expired(known[id])]
        data = request.data_for(self.their_version)
        if settled and len(settled) < len(awaited):
            self.met(Differs.CALLBACK_WITH_300)
            data["actions"] = [action for action in data["actions"] if action["data"]["awaited"] in settled]
            return Detour([(request.kind, data)])
        if not settled and self.theirs.state.tasks[request.data["id"]].resumes:
            self.met(Differs.RESUMES_REDIRECT)
            return Detour([(request.kind, data)] * 2)
        return None

    # --- answers ----------------------------------------------------------------------------------------------------

    def compare_answers(self, request: Request, ours: Reply, theirs: Reply) -> None:
        status = self.normal_status(request.kind, ours.status, theirs.status)
        assert ours.status == status, f"{ours} but {theirs}"
        if status < 400:
            self.tally.succeeded[request.kind] += 1
            self.compare_data(request, ours, theirs.data)
        else:
            self.met(Differs.ERROR_DATA)

    def normal_status(self, kind: str, ours: int, theirs: int) -> int:
        if theirs == 201:
            self.met(Differs.CREATED_IS_201)
            return 200
        if kind == "task.create" and (ours, theirs) == (422, 409):
            self.met(Differs.CREATE_WITHOUT_TARGET)
            return 422
        return theirs

    def compare_data(self, request: Request, ours: Reply, theirs: dict[str, Any]) -> None:
        data: dict[str, Any] = dict(ours.data)
        if "action" in data:
            self.met(Differs.FENCE_ENVELOPE)
            inner = data.pop("action")
            assert inner["kind"] == request.data["action"]["kind"]
            their_promise = theirs["action"]["data"]["promise"]
            assert (inner["head"]["status"] == 404) is (their_promise is None)
            if their_promise is not None:
                assert inner["data"]["promise"] == self.normal_promise(their_promise)
        if "preload" in data:
            self.compare_preload(request, ours, theirs["preload"])
        if "promise" in data:
            assert data["promise"] == self.normal_promise(theirs["promise"])
        if "task" in data:
            self.compare_task_record(data["task"], theirs["task"])
        their_members = theirs.keys() - {"redirect", "action"}
        assert data.keys() == their_members, f"{data.keys()} but {their_members}"

    def compare_task_record(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        self.met(Differs.TASK_RECORD)
        for record in (ours, theirs):
            assert ("pid" in record) is ("ttl" in record) is (record["state"] == "acquired")
        members = ("id", "state", "pid", "ttl")
        assert [ours.get(name) for name in members] == [theirs.get(name) for name in members]
        self.compare_versions(ours["id"], ours["version"], theirs["version"])

    def compare_preload(self, request: Request, ours: Reply, theirs: list[dict[str, Any]]) -> None:
        preload = ours.data["preload"]
        task_id = ours.data["promise"]["id"] if "promise" in ours.data else request.data["id"]
        if ours.data.get("task", {}).get("state") == "fulfilled":
            assert preload == []
            if theirs:
                self.met(Differs.PRELOAD_OF_FULFILLED)
            return
        if request.kind == "task.fence":
            assert preload == []
            if theirs:
                self.met(Differs.PRELOAD_OF_FENCE)
            return
        branch = self.theirs.state.promises[task_id].tags.get("resonate:branch")
        same = [promise for promise in preload if branch and promise["tags"].get("resonate:branch") == branch]
        children = [promise for promise in preload if promise not in same]
        expected = [self.projected(self.normal_promise(promise)) for promise in theirs]
        assert [promise["id"] for promise in preload] == sorted(promise["id"] for promise in preload)
        assert same == sorted(expected, key=lambda promise: str(promise["id"]))
        assert all(promise["tags"].get("resonate:parent") == task_id for promise in children)
        if same != expected:
            self.met(Differs.PRELOAD_ORDER)
        if children:
            self.met(Differs.PRELOAD_OF_CHILDREN)

    def normal_promise(self, record: dict[str, Any]) -> dict[str, Any]:
        if record["param"] is None or record["value"] is None:
            self.met(Differs.NULLS)
        return {**record, "param": record["param"] or {}, "value": record["value"] or {}}

    def projected(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the record as it reads now: an expired promise counts as settled."""
        if record["state"] != "pending" or self.now < record["timeoutAt"]:
            return record
        self.met(Differs.PRELOAD_IS_LATE)
        is_timer = record["tags"].get("resonate:timer") == "true"
        state = "resolved" if is_timer else "rejected_timedout"
        return {**record, "state": state, "settledAt": record["timeoutAt"]}

    # --- state ------------------------------------------------------------------------------------------------------

    def compare_state(self) -> None:
        messages = self.ours.take_sent()
        snapshot = self.ours.store.snapshot()
        state = self.theirs.state
        self.align_delays()
        compared = {task.id: task for task in snapshot.tasks if not self.is_expired(state.promises[task.id])}
        assert [promise.id for promise in snapshot.promises] == sorted(state.promises)
        for promise in snapshot.promises:
            assert msgspec.to_builtins(promise) == self.normal_promise(state.promises[promise.id].to_record())
        assert [task.id for task in snapshot.tasks] == sorted(state.tasks)
        for task in compared.values():
            self.compare_task(task, state.tasks[task.id])
        waiting = {(link.awaited, link.awaiter) for link in snapshot.callbacks}
        assert set(self.live(waiting)) == set(self.live(self.their_callbacks())), "callbacks"
        listening = {(link.awaited, link.address) for link in snapshot.listeners}
        assert listening == {(id, who) for id, promise in state.promises.items() for who in promise.subscribers}
        self.compare_timers(compared)
        self.compare_messages(messages)

    def compare_task(self, ours: Task, theirs: OfficialTask) -> None:
        assert (ours.state.value, ours.pid, ours.ttl) == (theirs.state, theirs.pid, theirs.ttl), f"{ours} but {theirs}"
        if ours.state is not TaskState.FULFILLED:
            assert ours.resumes == len(theirs.resumes), f"{ours} but {theirs}"
        self.compare_versions(ours.id, ours.version, theirs.version)

    def compare_versions(self, id: str, ours: int, theirs: int) -> None:
        state = self.theirs.state.tasks[id].state
        ahead = {"pending": (0,), "fulfilled": (0, 1)}.get(state, (1,))
        assert ours - theirs in ahead, f"task {id} is {state} at version {ours}, theirs {theirs}"
        if ours != theirs:
            self.met(Differs.VERSION_GROWS)

    def their_callbacks(self) -> set[tuple[str, str]]:
        promises = self.theirs.state.promises
        return {(id, awaiter) for id, promise in promises.items() for awaiter in promise.awaiters}

    def live(self, callbacks: set[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the callbacks between promises that are pending and not past their deadline."""
        promises = self.theirs.state.promises
        for pair in callbacks:
            if all(promises[id].state == "pending" and not self.is_expired(promises[id]) for id in pair):
                yield pair

    def compare_timers(self, compared: dict[str, Task]) -> None:
        theirs = {timer.id: (timer.typ, timer.timeout) for timer in self.theirs.state.t_timeouts}
        for task in compared.values():
            if task.state is TaskState.PENDING and self.is_timer(task.id):
                assert task.timer_at is None
                continue
            ours = None if task.timer_at is None else (TIMER_TYPES[task.state], task.timer_at)
            assert ours == theirs.get(task.id), f"timer of task {task.id}: {ours}, theirs {theirs.get(task.id)}"

    def compare_messages(self, messages: list[Message]) -> None:
        ours: dict[tuple[str, str], Any] = {}
        for message in messages:
            if isinstance(message, Execute):
                ours["execute", message.task_id] = (message.target, message.version)
            else:
                key = f"{message.promise.id} {message.address}"
                ours["unblock", key] = msgspec.to_builtins(message.promise)
        assert ours == self.their_messages()

    def their_messages(self) -> dict[tuple[str, str], Any]:
        found: dict[tuple[str, str], Any] = {}
        for sent in self.theirs.sent:
            assert "head" not in sent.message
            self.met(Differs.MESSAGE_HEAD)
            data = sent.message["data"]
            if sent.message["kind"] == "unblock":
                found["unblock", f"{data['promise']['id']} {sent.address}"] = self.normal_promise(data["promise"])
            elif self.is_expected(data["task"]["id"]):
                found["execute", data["task"]["id"]] = (sent.address, data["task"]["version"])
        self.theirs.sent.clear()
        return found

    def is_expected(self, id: str) -> bool:
        """Return whether ours may also send an ``execute`` for the task."""
        promise = self.theirs.state.promises[id]
        if self.is_timer(id):
            self.met(Differs.TIMER_DISPATCH)
            return False
        if promise.state != "pending" or self.is_expired(promise):
            self.met(Differs.EXPIRED_AWAITER)
            return False
        return self.delay_left(promise) <= 0

    def align_delays(self) -> None:
        """Set their timers of delayed tasks to the delay."""
        for timer in self.theirs.state.t_timeouts:
            promise = self.theirs.state.promises[timer.id]
            pending = self.theirs.state.tasks[timer.id].state == "pending"
            if pending and self.delay_left(promise) > 0 and timer.timeout != self.now + self.delay_left(promise):
                self.met(Differs.DELAY_ONCE)
                timer.timeout = self.now + self.delay_left(promise)

    def delay_left(self, promise: DurablePromise) -> int:
        return int(promise.tags.get("resonate:delay", "0")) - self.now

    def is_timer(self, id: str) -> bool:
        return self.theirs.state.promises[id].tags.get("resonate:timer") == "true"

    def is_internal(self, id: str) -> bool:
        """Return whether the promise exists and only the execution that created it may await it."""
        promise = self.theirs.state.promises.get(id)
        return promise is not None and not (
            promise.tags.keys() & {"resonate:target", "resonate:timer", "resonate:external"}
        )

    def is_expired(self, promise: DurablePromise) -> bool:
        return promise.state == "pending" and self.now >= promise.timeout_at


def _awaited(request: Request) -> list[str]:
    return list(dict.fromkeys(action["data"]["awaited"] for action in request.data["actions"]))


def _reads(request: Request) -> list[tuple[str, dict[str, Any]]]:
    """Return reads of everything the request touches, so that both servers notice expired promises."""
    touched = [request.data["id"], *(_awaited(request) if request.kind == "task.suspend" else [])]
    return [("promise.get", {"id": id}) for id in touched]
