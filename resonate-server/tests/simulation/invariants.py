"""The invariants of every run, whatever goes wrong. Each rule is a function that yields the violations it finds;
:class:`Ledger` remembers what workers were told."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from resonate_server.kernel.model import Task
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import (
    TaskAcquire,
    TaskFence,
    TaskFulfill,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)
from resonate_server.store.found import Snapshot

type Broken = Iterator[str]
type Write = TaskRelease | TaskFulfill | TaskSuspend | TaskFence


# --- one row before and after one request ---------------------------------------------------------------------------


def a_promise_changes_only_once(before: Promise | None, after: Promise) -> Broken:
    """When it is settled; and what it is never changes."""
    if before is not None and before.state is not PromiseState.PENDING and before != after:
        yield f"settled promise {before.id} changed from {before} to {after}"
    if before is not None and _identity(before) != _identity(after):
        yield f"promise {before.id} became another: {before} to {after}"


def _identity(promise: Promise) -> tuple[object, ...]:
    return promise.param, promise.tags, promise.timeout_at, promise.created_at


def a_version_grows_only_by_a_claim(before: Task | None, after: Task, is_claim: bool) -> Broken:
    version = 0 if before is None else before.version
    if after.version == version:
        return
    by_one = after.version == version + 1 and after.state is TaskState.ACQUIRED
    free = before is None or before.state is TaskState.PENDING
    if not (is_claim and by_one and free):
        yield f"version of task {after.id}: {version} ({before}) to {after.version} ({after}), claim: {is_claim}"


def a_task_never_goes_back(before: Task | None, after: Task) -> Broken:
    """A rule for rows, not for requests: one transaction may carry several decisions about a row."""
    if before is not None and after.version < before.version:
        yield f"version of task {after.id}: {before.version} to {after.version}"
    if before is not None and before.state is TaskState.FULFILLED and before != after:
        yield f"fulfilled task {before.id} changed to {after}"


def only_the_holder_extends_a_lease(before: Task | None, request: TaskHeartbeat) -> Broken:
    """``before``: a task that the heartbeat has changed."""
    told = {(ref.id, ref.version) for ref in request.tasks}
    if before is None or before.pid != request.pid or (before.id, before.version) not in told:
        yield f"{request} changed {before}"


def a_worker_s_write_needs_the_lease(before: Task | None, request: Write, status: int) -> Broken:
    """A fenced write is accepted only from the holder of exactly this version."""
    holds = before is not None and before.state is TaskState.ACQUIRED and before.version == request.version
    if status < 400 and not holds:
        yield f"{request} was accepted, though the task was {before}"


def a_claim_names_the_version_it_takes(request: TaskAcquire, answer: Answer) -> Broken:
    if answer.status == 200 and answer.data.task.version != request.version + 1:
        yield f"{request} was given {answer.data.task}"


def a_task_has_a_timer_or_a_lease(task: Task, promise: Promise) -> Broken:
    """A pending task has a time at which it is sent to a worker; an acquired one has a lease that ends."""
    if task.state is TaskState.PENDING and not promise.is_timer and task.timer_at is None:
        yield f"task {task.id} waits for a worker, but nothing will send it: {task}"
    if task.state is TaskState.ACQUIRED and (task.timer_at is None or task.pid is None):
        yield f"task {task.id} is held without a lease: {task}"
    if task.state is not TaskState.PENDING and task.queued:
        yield f"task {task.id} is {task.state}, but queued"


def nothing_leaves_before_the_commit(what: object, in_transaction: bool) -> Broken:
    if in_transaction:
        yield f"left before it was committed: {what}"


def a_sleep_ends_at_its_deadline(record: dict[str, Any]) -> Broken:
    if (record["state"], record.get("settledAt")) != ("resolved", record["timeoutAt"]):
        yield f"a sleep ended as {record}"


# --- the whole state ------------------------------------------------------------------------------------------------


def a_task_is_fulfilled_exactly_when_its_promise_is_settled(state: Snapshot) -> Broken:
    promises = {promise.id: promise for promise in state.promises}
    for task in state.tasks:
        settled = promises[task.id].state is not PromiseState.PENDING
        if settled is not (task.state is TaskState.FULFILLED):
            yield f"task {task.id} is {task.state}, its promise {promises[task.id].state}"


def every_suspended_task_awaits_something(state: Snapshot) -> Broken:
    """It awaits a pending promise, or a settled one whose settlement has not reached it yet."""
    waking_ids = {promise.id for promise in state.promises if promise.state is PromiseState.PENDING}
    waking_ids |= {spreading.promise_id for spreading in state.spreading}
    waking = {link.awaiter for link in state.callbacks if link.awaited in waking_ids}
    for task in state.tasks:
        if task.state is TaskState.SUSPENDED and task.id not in waking:
            yield f"task {task.id} sleeps, and nothing will wake it"


def nothing_is_left(state: Snapshot) -> Broken:
    """Holds after all work is done."""
    for promise in state.promises:
        if promise.state is PromiseState.PENDING:
            yield f"promise {promise.id} is still pending"
    for task in state.tasks:
        if task.state is not TaskState.FULFILLED:
            yield f"task {task.id} is stranded: {task}"
    for link in state.callbacks:
        yield f"{link.awaiter} still awaits {link.awaited}"
    for spreading in state.spreading:
        yield f"{spreading} goes on for ever"


# --- what workers were told -----------------------------------------------------------------------------------------


class Ledger:
    """Everything that the server has acknowledged, and what workers did because of it."""

    def __init__(self) -> None:
        self._settled: dict[str, dict[str, Any]] = {}
        self._settled_since: dict[str, int] = {}
        self._known: set[str] = set()
        self._given_up: set[tuple[str, int]] = set()
        self._listening: set[tuple[str, str]] = set()
        self._holders: dict[tuple[str, int], tuple[str, str]] = {}
        self._ended: dict[str, int] = {}
        self.runs: Counter[str] = Counter()

    def promise_shown(self, record: dict[str, Any], asked_at: int, now: int) -> Broken:
        """Record an answer that showed a promise: a settlement, once shown, is final. Answers may overtake each other,
        so one to a request sent before the settlement was shown may be out of date. Times are in ms."""
        id = record["id"]
        self._known.add(id)
        if record["state"] != "pending":
            told = self._settled.setdefault(id, record)
            self._settled_since.setdefault(id, now)
            if told != record:
                yield f"promise {id} was shown as {told}, now as {record}"
        elif self._settled_since.get(id, asked_at) < asked_at:
            yield f"promise {id} was shown as {self._settled[id]}, and later as {record}"

    def claimed(self, id: str, version: int, pid: str, corr_id: str) -> Broken:
        """At most one worker holds a version of a task, and it claimed it by one request (possibly sent twice)."""
        holder = self._holders.setdefault((id, version), (pid, corr_id))
        if holder != (pid, corr_id):
            yield f"version {version} of task {id} was given to {holder} and to {(pid, corr_id)}"

    def given_up(self, id: str, version: int) -> None:
        """Record that the task's suspension, release or fulfilment was acknowledged."""
        self._given_up.add((id, version))

    def listening(self, promise_id: str, address: str) -> None:
        self._listening.add((promise_id, address))

    def ran(self, id: str, asked_at: int) -> Broken:
        """Record that a function, or a local step of one, begins because of the answer to a request sent at
        ``asked_at`` (ms). A worker that was frozen in between begins in good faith; its writes will be refused."""
        self.runs[id] += 1
        if self._ended.get(id, asked_at) < asked_at:
            yield f"{id} runs again, though its end was acknowledged"

    def ended(self, id: str, now: int) -> None:
        """Record that the settlement of the promise it ran for was acknowledged."""
        self._ended.setdefault(id, now)

    def survives(self, state: Snapshot) -> Broken:
        """Every acknowledged write is still there. Checked after each restart of the server."""
        promises = {promise.id: promise for promise in state.promises}
        for id in sorted(self._known - promises.keys()):
            yield f"promise {id} was acknowledged and is lost"
        for id, record in self._settled.items():
            if id in promises and msgspec.to_builtins(promises[id]) != record:
                yield f"promise {id} was settled as {record} and is {promises[id]}"
        versions = {task.id: task for task in state.tasks}
        for id, version in self._holders:
            if id not in versions or versions[id].version < version:
                yield f"claim of version {version} of task {id} is lost: {versions.get(id)}"
        for id, version in sorted(self._given_up):
            task = versions.get(id)
            if task is not None and task.state is TaskState.ACQUIRED and task.version == version:
                yield f"task {id} was given up at version {version} and is held again: {task}"
        stored = {(link.awaited, link.address) for link in state.listeners}
        for promise_id, address in sorted(self._listening - stored):
            if promise_id in promises and promises[promise_id].state is PromiseState.PENDING:
                yield f"listener {address} on {promise_id} was acknowledged and is lost"
