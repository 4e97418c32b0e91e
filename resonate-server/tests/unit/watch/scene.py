"""Shorthands for events and for the comings of workers, for the tests of their consumers. No assertions in here."""

import re

from resonate_server.protocol.payload import Excerpt
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.absences import ConnectionHistory
from resonate_server.watch.events import PromiseCreated, PromiseSettled, TaskSuspended, WorkerGone


def settled(id: str, data: str = "", chain: str | None = None) -> PromiseSettled:
    return PromiseSettled(0, 5, chain or id, id, PromiseState.RESOLVED, Excerpt(data) if data else None, 1, 5)


def created(id: str, chain: str | None = None, parent: str | None = None) -> PromiseCreated:
    return PromiseCreated(0, 1, chain or id, id, parent, None, None, False, 9, 1)


def suspended(id: str, chain: str, on: list[str]) -> TaskSuspended:
    return TaskSuspended(0, 1, chain, id, "pid", 1, on)


def gone(pid: str = "pid") -> WorkerGone:
    return WorkerGone(0, 1, "workers", pid)


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
