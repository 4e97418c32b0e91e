"""Which promises are handed out together with a task (protocol section 3.4), so that a replay needs no round trip
for them.

The local steps of the execution (same branch) and, beyond the official rule, what the task created (its children):
SDKs use the preload only as a cache of what the server says. Capped, because a task may have any number of children.
"""

from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.records import Promise

MAX_PRELOAD = 256
"""Promises in one answer; what is left out is fetched by the SDK one by one."""


def preload(work: Workspace, task_id: str) -> list[Promise]:
    own = work.promise(task_id)
    if own is None:
        return []
    related = [
        promise
        for promise in work.preload_candidates()
        if promise.id != task_id and (promise.parent == task_id or (own.branch and promise.branch == own.branch))
    ]
    return sorted(related, key=lambda promise: promise.id)[:MAX_PRELOAD]
