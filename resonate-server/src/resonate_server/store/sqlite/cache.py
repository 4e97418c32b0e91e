"""A cache of rows in use: most requests touch rows that were touched a moment ago.

It may be emptied whenever all writes are in the database, and always holds what the database would return once they
are. Nothing is evicted during a transaction, so whatever a transaction has looked at stays cached until its end.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct, field
from msgspec.structs import replace

from resonate_server.kernel.model import (
    DropCallback,
    DropListener,
    LinkChange,
    PutCallback,
    PutListener,
    Task,
    Unread,
)
from resonate_server.kernel.sizes import value_weight
from resonate_server.protocol.records import Promise, Value

CACHE_BYTES = 12 * 1_024 * 1_024
"""Approximate limit of one generation: about 6,000 promises with small payloads. Two generations are kept."""

ENTRY_BYTES = 2_000
MEMBER_BYTES = 200
LINK_BYTES = 100
"""Rough sizes of an entry without its payloads, of a family member, and of a link: they only bound the total."""

MAX_LINKS = 200
"""Links of each kind in one entry: as many as learn of a settlement at once."""

MAX_PAYLOAD_BYTES = 64 * 1_024
"""Larger payloads are not cached: a few would evict everything else."""


def without_large_payloads(promise: Promise) -> Promise:
    """Return ``promise`` as it is cached."""
    if value_weight(promise.param) + value_weight(promise.value) <= MAX_PAYLOAD_BYTES:
        return promise
    return replace(promise, param=_unless_large(promise.param), value=_unless_large(promise.value))


def _unless_large(value: Value) -> Value:
    size = value_weight(value)
    return value if size <= MAX_PAYLOAD_BYTES else Unread(size=size)


class Entry(Struct, eq=False, gc=False):
    """A promise, whose payloads may be :class:`Unread`, its task, and the links that may still have an effect.

    ``callbacks``: awaiters to wake; ``listeners``: addresses; ``awaits``: ids that this one waits for. ``None``:
    unknown or too many; ask the database.
    """

    promise: Promise
    task: Task | None = None
    callbacks: dict[str, None] | None = None
    listeners: dict[str, None] | None = None
    awaits: dict[str, None] | None = None


def new_entry(promise: Promise) -> Entry:
    """Return the entry of a promise that did not exist before, so that nobody waits for it."""
    return Entry(promise=promise, callbacks={}, listeners={}, awaits={})


class Family(Struct, eq=False, gc=False):
    """Ids of the promises of one branch, or of one parent.

    ``complete``: there are no others. ``large``: too many to cache; ask the database each time.
    """

    ids: set[str] = field(default_factory=set)
    complete: bool = False
    large: bool = False

    def add(self, id: str) -> None:
        if not self.large:
            self.ids.add(id)

    def give_up(self) -> None:
        self.large, self.complete = True, False
        self.ids.clear()


class Generations[K, V]:
    """A map of bounded weight that evicts what was not used during a whole generation."""

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        self._young[key] = value
        self._weight += self._weigh(value)

    def grown(self, weight: int) -> None:
        """Count ``weight`` more, for a value that has grown."""
        self._weight += weight

    def age(self) -> None:
        """Begin a new generation if this one is full."""
        if self._weight > self._limit:
            self._old, self._young, self._weight = self._young, {}, 0

    def clear(self) -> None:
        self._young, self._old, self._weight = {}, {}, 0


class Cache:
    """Entries by id, and the families that preloads ask for."""

    def __init__(self, limit: int) -> None:
        """``limit`` in bytes, approximately."""
        self._entries: Generations[str, Entry] = Generations(limit, _entry_bytes)
        self._families: Generations[tuple[str, str], Family] = Generations(limit // 2, _family_bytes)
        self.get = self._entries.get

    def put(self, entry: Entry) -> None:
        self._entries.put(entry.promise.id, entry)

    def replace(self, entry: Entry, promise: Promise) -> None:
        """Replace the promise of ``entry``."""
        entry.promise = without_large_payloads(promise)
        self._entries.grown(_payload_bytes(entry.promise))

    def age(self) -> None:
        """Begin new generations where needed. Between transactions only."""
        self._entries.age()
        self._families.age()

    def clear(self) -> None:
        self._entries.clear()
        self._families.clear()

    # --- families ---------------------------------------------------------------------------------------------------

    def branch(self, id: str) -> Family:
        """Return the known promises that name ``id`` as their branch."""
        return self._family("branch", id)

    def children(self, id: str) -> Family:
        """Return the known promises that name ``id`` as their parent."""
        return self._family("parent", id)

    def _family(self, tag: str, id: str) -> Family:
        family = self._families.get((tag, id))
        if family is None:
            family = Family()
            self._families.put((tag, id), family)
        return family

    def add_to_families(self, promise: Promise) -> None:
        for tag, id in (("branch", promise.branch), ("parent", promise.parent)):
            if id:
                self._family(tag, id).add(promise.id)
                self._families.grown(MEMBER_BYTES)

    # --- links ------------------------------------------------------------------------------------------------------

    def apply(self, link: LinkChange) -> None:
        """Apply ``link`` to the cached callbacks and listeners."""
        match link:
            case PutCallback(awaited=awaited, awaiter=awaiter):
                self._add_callback(awaited, awaiter)
            case DropCallback(awaited=awaited, awaiter=awaiter):
                self._remove_callback(awaited, awaiter)
            case PutListener(awaited=awaited, address=address):
                entry = self.get(awaited)
                if entry is not None:
                    entry.listeners = self._with(entry.listeners, address)
            case DropListener(awaited=awaited, address=address):
                entry = self.get(awaited)
                if entry is not None and entry.listeners is not None:
                    entry.listeners.pop(address, None)

    def drop_callbacks(self, awaiter: str, awaited: Iterable[str]) -> None:
        """Remove ``awaiter`` from the callbacks of each of ``awaited``."""
        for each in awaited:
            self._remove_callback(each, awaiter)

    def _add_callback(self, awaited: str, awaiter: str) -> None:
        entry, waiting = self.get(awaited), self.get(awaiter)
        if entry is not None:
            entry.callbacks = self._with(entry.callbacks, awaiter)
        if waiting is not None:
            waiting.awaits = self._with(waiting.awaits, awaited)

    def _remove_callback(self, awaited: str, awaiter: str) -> None:
        entry, waiting = self.get(awaited), self.get(awaiter)
        if entry is not None and entry.callbacks is not None:
            entry.callbacks.pop(awaiter, None)
        if waiting is not None and waiting.awaits is not None:
            waiting.awaits.pop(awaited, None)

    def _with(self, links: dict[str, None] | None, end: str) -> dict[str, None] | None:
        """Return ``links`` with one more, or ``None`` if that is too many."""
        if links is None or (len(links) >= MAX_LINKS and end not in links):
            return None
        links[end] = None
        self._entries.grown(LINK_BYTES + len(end))
        return links


def _entry_bytes(entry: Entry) -> int:
    return ENTRY_BYTES + sum(map(len, entry.promise.tags.values())) + _payload_bytes(entry.promise)


def _payload_bytes(promise: Promise) -> int:
    return _bytes_here(promise.param) + _bytes_here(promise.value)


def _bytes_here(value: Value) -> int:
    return 0 if isinstance(value, Unread) else value_weight(value)


def _family_bytes(family: Family) -> int:
    return MEMBER_BYTES * (1 + len(family.ids))
