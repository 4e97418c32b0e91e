"""Which promises are sent along with a task (protocol section 3.4), to save a replay the round trips.

These are the local steps of the execution (same branch) and, beyond the official rule, the promises that the task
created (its children). SDKs use the preload only as a cache of the server's answers. It is capped, because a task may
have any number of children of any size.
"""

from collections.abc import Iterable, Iterator

from resonate_server.kernel.model import Unread
from resonate_server.kernel.settlement import projected
from resonate_server.kernel.weight import weight
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.records import Promise

MAX_PRELOAD = 256
"""Maximum number of promises in one answer. The SDK fetches the others one by one."""

MAX_PRELOAD_BYTES = 1_024 * 1_024
"""Their maximum total size, by :func:`weight`: room for 256 steps of 4 KiB each."""


def preload(work: Workspace, task_id: str) -> list[Promise]:
    own = work.promise(task_id)
    if own is None:
        return []
    related = [
        projected(promise, work.now)
        for promise in work.preload_candidates()
        if promise.id != task_id and (promise.parent == task_id or (own.branch and promise.branch == own.branch))
        if is_read(promise)
    ]
    return list(fitting(sorted(related, key=lambda promise: promise.id)))


def fitting(promises: Iterable[Promise]) -> Iterator[Promise]:
    """Yield the first of ``promises`` that fit into one answer. One too large is skipped; later ones may still fit."""
    places, room = MAX_PRELOAD, MAX_PRELOAD_BYTES
    for promise in promises:
        size = weight(promise)
        if places and size <= room:
            places -= 1
            room -= size
            yield promise


def is_read(promise: Promise) -> bool:
    """Return whether both payloads are loaded. They are not if they did not fit, or for promises that just settled."""
    return not (isinstance(promise.param, Unread) or isinstance(promise.value, Unread))
