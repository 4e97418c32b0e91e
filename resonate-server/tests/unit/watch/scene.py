"""Shorthands for events and for the comings of workers, for the tests of their consumers. No assertions in here."""

import re
from typing import Any

from resonate_server.protocol.lineage import Row, rows
from resonate_server.protocol.payload import Excerpt
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.absences import ConnectionHistory
from resonate_server.watch.events import PromiseCreated, PromiseSettled, TaskNews, What, WorkerEvent
from resonate_server.watch.views import PromiseView


def settled(id: str, data: str = "", chain: str | None = None) -> PromiseSettled:
    value, state = Excerpt(data) if data else None, PromiseState.RESOLVED
    return PromiseSettled(at=5, chain=chain or id, id=id, state=state, value=value, created_at=1, settled_at=5)


def created(
    id: str, chain: str | None = None, parent: str | None = None, group: str | None = None, at: int = 1
) -> PromiseCreated:
    times: Any = {"at": at, "created_at": at, "timeout_at": 10_000}
    return PromiseCreated(chain=chain or id, id=id, parent=parent, func=None, group=group, timer=False, **times)


def task(kind: What, at: int = 1, version: int = 1, id: str = "a", chain: str | None = None, **more: Any) -> TaskNews:
    return TaskNews(kind=kind, at=at, chain=chain or id, id=id, version=version, **more)


def gone(pid: str = "pid") -> WorkerEvent:
    return WorkerEvent(kind=What.GONE, at=1, group="workers", pid=pid)


def placed(promises: list[PromiseView]) -> list[Row[PromiseView]]:
    """The first one is the root."""
    return [*rows(promises, promises[0].id, promises[0].id)] if promises else []


def connections(since: int, steps: str) -> ConnectionHistory:
    """Group bar, from ``since`` on. ``p1+300``: it connected at 300; ``p1-300``: it left; ``p1?300``: it asked."""
    made = ConnectionHistory(since)
    for pid, what, at in (re.split("([+?-])", step) for step in steps.split()):
        match what:
            case "+":
                made.connected("bar", pid, int(at))
            case "-":
                made.left("bar", pid, int(at))
            case "?":
                made.acted(pid, int(at))
    return made
