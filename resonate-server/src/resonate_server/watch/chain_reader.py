"""Reads chains for the page: the list of the newest ones, and everything known about one.

Rows are read in small portions, each an item of its own in the engine's ordinary queue, so that viewers hold up nobody
for long.
"""

import asyncio
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Protocol

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict

from resonate_server.kernel.model import Footprint
from resonate_server.kernel.sizes import weight
from resonate_server.protocol.address import group_of
from resonate_server.protocol.lineage import Row, rows
from resonate_server.protocol.payload import MAX_TEXT, excerpt, function_of, readable
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import Id, Millis
from resonate_server.store.found import Branch, Place
from resonate_server.store.view import View
from resonate_server.watch.absences import FOREVER, ConnectionHistory, Outages
from resonate_server.watch.attempts import Lives, fill_in
from resonate_server.watch.derive import chain_of
from resonate_server.watch.events import encoder
from resonate_server.watch.ring import Ring, own
from resonate_server.watch.story import story
from resonate_server.watch.views import ChainView, PromiseSummary, PromiseView, TaskView

PORTION = 500
"""Rows read in one portion."""

PORTION_MS = 5.0
"""After this time a portion reads no further row, and deriving the lives of calls yields to the event loop."""

PORTION_BYTES = 4 * 1_024 * 1_024
"""Nor after this many bytes of payload."""

MAX_PORTIONS = 10
"""Portions read for one page of the list; a search that needs more continues on the next page."""

MAX_PROMISES = 2_000
"""Promises shown of one chain."""

MAX_CHAIN_BYTES = 6 * 1_024 * 1_024
"""Size of one chain's promises on the wire; the chain is cut there. Payloads beyond half of that are shortened."""

SHORT_TEXT = 128
"""Characters of a shortened payload, and of a tag's name."""


DIFFER_MS = 1_000
"""The clocks of two servers on one database differ by less than this."""


class RowReader(Protocol):
    """Reads committed rows."""

    async def read[T](self, query: Callable[[View], T]) -> T:
        """Return what ``query`` finds among the committed rows."""


class BadCursor(Exception):
    """This server did not issue the cursor."""


class ChainQuery(Struct, frozen=True):
    """Which chains to list; ``text`` is a part of the id or the function's name, ignoring case."""

    limit: int
    before: Place | None = None
    state: PromiseState | None = None
    text: str = ""
    prefix: str = ""

    def wants(self, root: PromiseSummary) -> bool:
        if self.state not in (None, root.state) or not root.id.startswith(self.prefix):
            return False
        text = self.text.casefold()
        return text in root.id.casefold() or text in (root.func or "").casefold()


class ChainPage(Struct, frozen=True):
    """``next``: the cursor of the next page."""

    chains: list[PromiseSummary]
    next: str | None


class ChainReader:
    """``now`` returns the time in ms since the epoch."""

    def __init__(
        self, reader: RowReader, ring: Ring, history: ConnectionHistory, outages: Outages, now: Callable[[], int]
    ) -> None:
        self._reader = reader
        self._ring = ring
        self._history = history
        self._outages = outages
        self._now = now

    async def page(self, wanted: ChainQuery) -> ChainPage:
        """Return the newest matching chains. ``next`` is set while there may be more, even if none was found."""
        found: list[PromiseSummary] = []
        last = wanted.before
        for _ in range(MAX_PORTIONS):
            look = partial(_look_through, wanted, last, self._now(), wanted.limit - len(found))
            more, last = await self._reader.read(look)
            found += more
            if last is None or len(found) == wanted.limit:
                break
        return ChainPage(found, None if last is None else encode_place(_own_place(last, wanted.prefix)))

    async def view(self, id: str, prefix: str = "") -> ChainView | None:
        """Return the chain of promise ``id``, limited to ids that begin with ``prefix``."""
        promise = await self._reader.read(lambda store: store.load(Footprint(ids=(id,))).promises.get(id))
        if promise is None:
            return None
        root = chain_of(promise)
        promises, cut = await self._read_tree(root, prefix)
        lives = Lives(self._ring.since or self._history.since)
        created = {promise.id: promise.created_at for promise in promises}
        events = (event for event in self._ring.of(created) if event.at > created[event.id] - DIFFER_MS)
        await _in_turns(map(lives.take, events))
        placed = _placed(promises, root)
        await _in_turns(fill_in(placed, lives, self._history))
        outages = self._outages.between(*_span(promises))
        shown = [_redacted(row.node, prefix) for row in placed]
        return ChainView(root, self._now(), shown, cut, outages, story(placed, outages, lives.refused))

    async def _read_tree(self, root: str, prefix: str) -> tuple[list[PromiseView], bool]:
        """Return the promises to show, and whether there are more."""
        shown: list[PromiseView] = []
        left, after = MAX_CHAIN_BYTES, ""
        while len(shown) <= MAX_PROMISES and left > 0:
            portion, left = await self._reader.read(partial(_tree, root, after, self._now(), left))
            if not portion:
                break
            after = portion[-1].id
            shown += [view for view in portion if view.id.startswith(prefix)]
        return shown[:MAX_PROMISES], len(shown) > MAX_PROMISES or left <= 0


async def _in_turns(steps: Iterable[None]) -> None:
    end = time.perf_counter() + PORTION_MS / 1_000
    for _ in steps:
        if time.perf_counter() > end:
            await asyncio.sleep(0)
            end = time.perf_counter() + PORTION_MS / 1_000


# --- inside the engine's queue --------------------------------------------------------------------------------------


def _look_through(
    wanted: ChainQuery, before: Place | None, now: int, limit: int, store: View
) -> tuple[list[PromiseSummary], Place | None]:
    """Return the next matching roots, within the limits of one portion, and the place of the last row read; ``None`` if
    there are no more."""
    found: list[PromiseSummary] = []
    last: Place | None = None
    roots = store.recent_roots(wanted.state, before, now)
    for promise in _bounded(roots, weight):
        last = Place(created_at=promise.created_at, id=promise.id)
        summary = _summary(promise)
        if wanted.wants(summary):
            found.append(summary)
        if len(found) == limit:
            break
    there_are_more = next(roots, None) is not None
    return found, last if there_are_more else None


def _tree(root: str, after: str, now: int, left: int, store: View) -> tuple[list[PromiseView], int]:
    """Return the next promises, within the limits of one portion, and what is left of the chain's ``left`` bytes."""
    views = []
    for branch in _bounded(store.tree(root, after, now), lambda branch: weight(branch.promise)):
        views.append(_view(branch, MAX_TEXT if left > MAX_CHAIN_BYTES // 2 else SHORT_TEXT))
        left -= len(encoder.encode(views[-1]))
    return views, left


def _bounded[T](rows: Iterator[T], weigh: Callable[[T], int]) -> Iterator[T]:
    """Yield as many of ``rows`` as one portion may read, at least one."""
    end = time.perf_counter() + PORTION_MS / 1_000
    weighed = 0
    for row in islice(rows, PORTION):
        yield row
        weighed += weigh(row)
        if weighed > PORTION_BYTES or time.perf_counter() > end:
            return


def _placed(promises: list[PromiseView], root: str) -> list[Row[PromiseView]]:
    """Put the promises in the order of the call tree, and each of them in its place there."""
    top = next((view.id for view in promises if view.id == root), promises[0].id if promises else "")
    placed = [*rows(promises, top, top)] if promises else []
    for row in placed:
        row.node.depth, row.node.follows = row.depth, row.follows
    return placed


def _span(promises: list[PromiseView]) -> tuple[int, int]:
    """Return when a chain began and when it ended; :data:`FOREVER` while it lasts."""
    begin = min((view.created_at for view in promises), default=0)
    return begin, max((FOREVER if view.settled_at is None else view.settled_at for view in promises), default=0)


# --- how rows are shown ---------------------------------------------------------------------------------------------


def _summary(promise: Promise) -> PromiseSummary:
    return PromiseSummary(
        id=promise.id,
        func=function_of(promise),
        group=group_of(promise.target),
        state=promise.state,
        created_at=promise.created_at,
        settled_at=None if promise.settled_at is UNSET else promise.settled_at,
    )


def _view(branch: Branch, max_text: int) -> PromiseView:
    promise = branch.promise
    return PromiseView(
        **asdict(_summary(promise)),
        role=promise.role,
        parent=None if promise.parent == promise.id else promise.parent,
        timeout_at=promise.timeout_at,
        param=readable(excerpt(promise.param), max_text),
        value=readable(excerpt(promise.value), max_text),
        tags=_short(promise.tags),
        task=_task_view(branch),
        awaits=branch.awaits,
    )


def _task_view(branch: Branch) -> TaskView | None:
    task = branch.task
    if task is None:
        return None
    return TaskView(
        state=task.state,
        attempt=task.version,
        pid=task.pid,
        retry_at=task.timer_at if task.state is TaskState.PENDING and not task.queued else None,
        trouble=task.report().trouble,
        ttl=task.ttl,
        unclaimed=task.unclaimed,
        why=task.reason or "",
    )


def _short(tags: dict[str, str]) -> dict[str, str]:
    """Limit tags, which are free text of any length and number."""
    return {name[:SHORT_TEXT]: text[:1_024] for name, text in islice(tags.items(), 64)}


def _redacted(view: PromiseView, prefix: str) -> PromiseView:
    """Remove the ids that the viewer may not see."""
    if not prefix:
        return view
    view.parent = own(view.parent, prefix)
    for ids in (view.awaits, *(phase.on for phase in view.phases)):
        ids[:] = [id for id in ids if id.startswith(prefix)]
    return view


# --- cursors --------------------------------------------------------------------------------------------------------


def encode_place(place: Place) -> str:
    return urlsafe_b64encode(msgspec.json.encode((place.created_at, place.id))).decode()


def _own_place(place: Place, prefix: str) -> Place:
    """Return a place that names nobody else's id, and has the same ids that begin with ``prefix`` after it."""
    if place.id.startswith(prefix):
        return place
    return Place(place.created_at, "\x01" if place.id < prefix else f"{prefix}\U0010ffff")


def decode_place(cursor: str) -> Place:
    """Raises :class:`BadCursor`."""
    try:
        created_at, id = msgspec.json.decode(urlsafe_b64decode(cursor), type=tuple[Millis, Id])
    except (msgspec.DecodeError, ValueError):
        raise BadCursor from None
    return Place(created_at=created_at, id=id)
