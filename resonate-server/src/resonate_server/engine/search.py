"""Runs a search (protocol section 3.1) in portions, between which others have a turn."""

import time

from msgspec.structs import replace

from resonate_server.kernel.weight import Page
from resonate_server.protocol.requests import Search
from resonate_server.store import Store, View

PORTION_S = 0.005
"""After this time a search lets others go first."""

STEP = 500
"""Rows that a search examines between two looks at the clock."""


async def find(store: Store, search: Search, now: int) -> Page:
    """Return the result as of ``now`` (ms).

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
