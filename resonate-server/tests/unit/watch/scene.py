"""Shorthands for events, for the tests of their consumers. No assertions in here."""

from resonate_server.protocol.payload import Excerpt
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.events import PromiseCreated, PromiseSettled, TaskSuspended, WorkerGone


def settled(id: str, data: str = "", chain: str | None = None) -> PromiseSettled:
    return PromiseSettled(0, 5, chain or id, id, PromiseState.RESOLVED, Excerpt(data) if data else None, 1, 5)


def created(id: str, chain: str | None = None, parent: str | None = None) -> PromiseCreated:
    return PromiseCreated(0, 1, chain or id, id, parent, None, None, False, 9, 1)


def suspended(id: str, chain: str, on: list[str]) -> TaskSuspended:
    return TaskSuspended(0, 1, chain, id, "pid", 1, on)


def gone(pid: str = "pid") -> WorkerGone:
    return WorkerGone(0, 1, "workers", pid)
