"""Loading the links of promises that are settled, up to a limit, from either store."""

from collections.abc import Callable

from resonate_server.kernel.model import LinkFootprint, Rows, Spreading

MAX_TOLD_BYTES = 8 * 1_024 * 1_024
"""Limit on the promises sent to listeners in one transaction; a single promise may exceed it. The rest follow later."""

type Links = tuple[list[str], list[str]]
"""Awaiters and listeners of a promise; if there are more than the limit, at least one more."""


def add_links(
    loaded: Rows, footprint: LinkFootprint, links: Callable[[Spreading, int], Links], weigh: Callable[[str], int]
) -> list[str]:
    """Add the links that ``footprint`` names to ``loaded``; ``loaded.complete`` names promises that have no others.

    Return the promises with listeners, which are to be loaded with their payloads: up to :data:`MAX_TOLD_BYTES`.
    ``links`` finds those of a promise, up to a limit; ``weigh`` estimates the bytes of one.
    """
    limit, room, told = footprint.limit, MAX_TOLD_BYTES, []
    for spreading in footprint.spreading:
        if limit <= 0 or room <= 0:
            break
        id = spreading.promise_id
        awaiters, listeners = links(spreading, limit)
        if len(awaiters) + len(listeners) <= limit:
            loaded.complete.add(id)
        loaded.awaiters[id] = awaiters[:limit]
        limit -= len(loaded.awaiters[id])
        loaded.listeners[id] = listeners[:limit]
        limit -= len(loaded.listeners[id])
        if loaded.listeners[id]:
            told.append(id)
            room -= weigh(id)
    return told
