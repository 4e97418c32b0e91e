"""What came before what, whatever the clocks say: each server tells its events by its own, and no two go alike.

What happens to one promise, the database makes one after the other, and it counts the attempts. And whoever asks for
something is there.
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
"""Clocks of two servers on one database differ by less."""

BEFORE_ALL, AFTER_ALL = -1, 2**63


def place(event: ChainEvent) -> tuple[int, int, int]:
    """Of an event among those of its promise: attempt, what becomes of one, and only then the time."""
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
    """The worker that has asked for it."""
    match event:
        case (
            TaskClaimed(pid=pid)
            | TaskSuspended(pid=pid)
            | TaskReleased(pid=pid)
            | PromiseSettled(pid=pid, by_worker=True)
        ):
            return pid
    return None
