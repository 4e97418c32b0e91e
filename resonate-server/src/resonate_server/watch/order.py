"""Orders events without relying on clocks: each server stamps events by its own clock, and no two agree.

The database serializes the changes of one promise and counts its attempts. And a worker that sends a request is
connected.
"""

from resonate_server.watch.events import (
    ChainEvent,
    Event,
    PromiseCreated,
    PromiseSettled,
    TaskClaimed,
    TaskHalted,
    TaskLost,
    TaskQueued,
    TaskRefused,
    TaskReleased,
    TaskSent,
    TaskSuspended,
    TaskUnclaimed,
)

DIFFER_MS = 1_000
"""The clocks of two servers on one database differ by less than this."""

BEFORE_ALL, AFTER_ALL = -1, 2**63


def place(event: ChainEvent) -> tuple[int, int, int]:
    """Return an event's sort key among those of its promise: attempt, then stage of the attempt, then time."""
    match event:
        case PromiseCreated():
            return BEFORE_ALL, 0, event.at
        case TaskClaimed(version=attempt):
            return attempt, 0, event.at
        case TaskSuspended(version=attempt) | TaskLost(version=attempt) | TaskReleased(version=attempt):
            return attempt, 1, event.at
        case (
            TaskQueued(version=attempt)
            | TaskSent(version=attempt)
            | TaskUnclaimed(version=attempt)
            | TaskHalted(version=attempt)
            | TaskRefused(version=attempt)
        ):
            return attempt, 2, event.at
    return AFTER_ALL, 0, event.at


def actor(event: Event) -> str | None:
    """Return the worker whose request caused the event."""
    match event:
        case (
            TaskClaimed(pid=pid)
            | TaskSuspended(pid=pid)
            | TaskReleased(pid=pid)
            | PromiseSettled(pid=pid, by_worker=True)
        ):
            return pid
    return None
