"""Which promises are handed out together with a task (protocol section 3.4), so that a replay needs no round trip
for them.

The local steps of the execution (same branch) and, beyond the official rule, what the task created (its children):
SDKs use the preload only as a cache of what the server says. Capped, because a task may have any number of children of
any size.
"""

from collections.abc import Iterable, Iterator

from resonate_server.kernel.model import Unread
from resonate_server.kernel.settlement import projected
from resonate_server.kernel.weight import weight
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.records import Promise

MAX_PRELOAD = 256
"""Promises in one answer; what is left out is fetched by the SDK one by one."""

MAX_PRELOAD_BYTES = 1_024 * 1_024
"""Of these together, as :func:`weight` tells it: 256 steps with 4 KiB each fit."""


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
    """The first of ``promises`` that fit into one answer; a large one does not keep out those that come after it."""
    places, room = MAX_PRELOAD, MAX_PRELOAD_BYTES
    for promise in promises:
        size = weight(promise)
        if places and size <= room:
            places -= 1
            room -= size
            yield promise


def is_read(promise: Promise) -> bool:
    """Whether its payloads are at hand. Those that do not fit are not read; nor is what was settled on the way."""
    return not (isinstance(promise.param, Unread) or isinstance(promise.value, Unread))
