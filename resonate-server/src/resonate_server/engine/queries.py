"""Answers that take many rows: searches, and the whole state as tests compare it between servers."""

import time
from typing import Any

import msgspec
from msgspec.structs import replace

from resonate_server.kernel.sizes import Page
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import Execute, Message, encode_message
from resonate_server.protocol.records import PromiseState, TaskState
from resonate_server.protocol.requests import Search
from resonate_server.store import Store
from resonate_server.store.found import Snapshot
from resonate_server.store.view import View

PORTION_S = 0.005
"""After this time a search lets others go first."""

STEP = 500
"""Rows that a search examines between two looks at the clock."""


async def find(store: Store, search: Search, now: int) -> Page:
    """Search (protocol section 3.1) in portions, between which others have a turn. Return the result as of ``now``
    (ms).

    Raises ``ReadFailed``, also if large answers are in flight and too many requests already wait for room.
    """
    page = Page(search)
    ahead: Search | None = search
    while ahead is not None:
        if store.outgoing.is_full and page.is_empty:
            await store.outgoing.wait()
        ahead = await store.browse(lambda view, ahead=ahead: _look_on(store, view, ahead, now, page))  # type: ignore[misc]
    return page


def _look_on(store: Store, view: View, ahead: Search, now: int, page: Page) -> Search | None:
    """Search one portion, if there is room. Return the rest, if any."""
    if store.outgoing.is_full and page.is_empty:
        return ahead
    end = time.perf_counter() + PORTION_S
    while time.perf_counter() < end:
        last = view.id_ahead(ahead, STEP)
        for row in view.search(ahead, now, last):
            page.take(row)
            if page.is_full:
                break
        if last is None or page.is_full:
            return None
        ahead = replace(ahead, cursor=last, limit=page.places)
    return ahead


MAX_SNAP_BYTES = 8 * 1_024 * 1_024
"""Largest state to return: this is for tests of a few promises."""

_TIMER_TYPES = {TaskState.PENDING: 0, TaskState.ACQUIRED: 1}
"""0: dispatch again, 1: end of the lease."""


def snap(view: View, server_url: str) -> Answer:
    """Return what ``debug.snap`` answers (protocol section 3.3)."""
    size = view.snapshot_bytes()
    if size > MAX_SNAP_BYTES:
        sentence = f"the state has about {size} bytes; debug.snap shows at most {MAX_SNAP_BYTES}"
        return Answer(status=413, data=sentence)
    return Answer(status=200, data=_describe(view.snapshot(), server_url))


def _describe(snapshot: Snapshot, server_url: str) -> dict[str, Any]:
    return {
        "promises": snapshot.promises,
        "promiseTimeouts": [
            {"id": promise.id, "timeout": promise.timeout_at}
            for promise in snapshot.promises
            if promise.state is PromiseState.PENDING and promise.is_external
        ],
        "callbacks": [{"awaiter": link.awaiter, "awaited": link.awaited} for link in snapshot.callbacks],
        "listeners": [{"id": link.awaited, "address": link.address} for link in snapshot.listeners],
        "tasks": [task.record() for task in snapshot.tasks],
        "taskTimeouts": [
            {"id": task.id, "type": _TIMER_TYPES[task.state], "timeout": task.timer_at}
            for task in snapshot.tasks
            if task.timer_at is not None
        ],
        "messages": [
            *(_message(task.execute(), server_url) for task in snapshot.tasks if task.queued),
            *(_message(unblock, server_url) for unblock in snapshot.unblocks),
        ],
    }


def _message(message: Message, server_url: str) -> dict[str, Any]:
    address = message.target if isinstance(message, Execute) else message.address
    return {"address": address, "message": msgspec.Raw(encode_message(message, server_url))}
