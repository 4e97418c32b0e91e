"""Rows that are in use, in memory: most requests touch what was touched a moment ago.

A cache and nothing else: it may be emptied whenever everything written is in the database, and what it holds is
always what the database would answer once everything written is there. Nothing is dropped in the middle of a
transaction, so whatever a transaction has looked at stays here until its end.
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
from resonate_server.kernel.weight import value_weight
from resonate_server.protocol.records import Promise, Value

CACHE_BYTES = 12 * 1_024 * 1_024
"""About what one generation may take: some 6,000 promises with small payloads. Two of them are kept."""

ENTRY_BYTES = 2_000
MEMBER_BYTES = 200
LINK_BYTES = 100
"""What an entry takes besides its payloads, a member of a family, and a link. Roughly: it only has to be bounded."""

MAX_LINKS = 200
"""Of each kind, in one entry: so many are told of a settlement at once."""

MAX_PAYLOAD_BYTES = 64 * 1_024
"""A larger payload is not kept: few of them would push out everything else."""


def without_large_payloads(promise: Promise) -> Promise:
    """``promise`` as it is kept."""
    if value_weight(promise.param) + value_weight(promise.value) <= MAX_PAYLOAD_BYTES:
        return promise
    return replace(promise, param=_unless_large(promise.param), value=_unless_large(promise.value))


def _unless_large(value: Value) -> Value:
    size = value_weight(value)
    return value if size <= MAX_PAYLOAD_BYTES else Unread(size=size)


class Entry(Struct, eq=False):
    """One promise, whose payloads may be :class:`Unread`, its task, and those links that may still have an effect.

    ``callbacks``: awaiters to be woken; ``listeners``: addresses; ``awaits``: ids of which this one is such an awaiter.
    ``None``: not known here, or too many; the database is to be asked.
    """

    promise: Promise
    task: Task | None = None
    callbacks: dict[str, None] | None = None
    listeners: dict[str, None] | None = None
    awaits: dict[str, None] | None = None


def new_entry(promise: Promise) -> Entry:
    """Of a promise that did not exist before, so that nobody waits for it."""
    return Entry(promise=promise, callbacks={}, listeners={}, awaits={})


class Family(Struct, eq=False):
    """Ids of the promises of one branch, or of one parent.

    ``complete``: these are all there are. ``large``: too many to be kept; the database is asked each time.
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


class Generations[V]:
    """A map of bounded weight that forgets what was not asked for during a whole generation."""

    def __init__(self, limit: int, weigh: Callable[[V], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._young: dict[str, V] = {}
        self._old: dict[str, V] = {}

    def get(self, key: str) -> V | None:
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: str, value: V) -> None:
        self._young[key] = value
        self._weight += self._weigh(value)

    def grown(self, weight: int) -> None:
        """Something in here has become heavier."""
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
        """``limit`` in bytes, as far as they can be told."""
        self._entries: Generations[Entry] = Generations(limit, _entry_bytes)
        self._branches: Generations[Family] = Generations(limit // 4, _family_bytes)
        self._children: Generations[Family] = Generations(limit // 4, _family_bytes)

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def put(self, entry: Entry) -> None:
        self._entries.put(entry.promise.id, entry)

    def replace(self, entry: Entry, promise: Promise) -> None:
        """The promise of ``entry`` as it is now."""
        entry.promise = without_large_payloads(promise)
        self._entries.grown(_payload_bytes(entry.promise))

    def age(self) -> None:
        """Between transactions only."""
        self._entries.age()
        self._branches.age()
        self._children.age()

    def clear(self) -> None:
        self._entries.clear()
        self._branches.clear()
        self._children.clear()

    # --- families ---------------------------------------------------------------------------------------------------

    def branch(self, id: str) -> Family:
        """The promises that name ``id`` as their branch, as far as they are known."""
        return _family(self._branches, id)

    def children(self, id: str) -> Family:
        """The promises that name ``id`` as their parent, as far as they are known."""
        return _family(self._children, id)

    def add_to_families(self, promise: Promise) -> None:
        if promise.branch:
            self.branch(promise.branch).add(promise.id)
            self._branches.grown(MEMBER_BYTES)
        if promise.parent:
            self.children(promise.parent).add(promise.id)
            self._children.grown(MEMBER_BYTES)

    # --- links ------------------------------------------------------------------------------------------------------

    def apply(self, link: LinkChange) -> None:
        """Keep callbacks and listeners of the entries as the database will have them."""
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
        """Nothing of ``awaited`` wakes ``awaiter`` any more."""
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
        """``links`` and one more; unknown if that are too many."""
        if links is None or (len(links) >= MAX_LINKS and end not in links):
            return None
        links[end] = None
        self._entries.grown(LINK_BYTES + len(end))
        return links


def _family(families: Generations[Family], id: str) -> Family:
    family = families.get(id)
    if family is None:
        family = Family()
        families.put(id, family)
    return family


def _entry_bytes(entry: Entry) -> int:
    return ENTRY_BYTES + sum(map(len, entry.promise.tags.values())) + _payload_bytes(entry.promise)


def _payload_bytes(promise: Promise) -> int:
    return _bytes_here(promise.param) + _bytes_here(promise.value)


def _bytes_here(value: Value) -> int:
    return 0 if isinstance(value, Unread) else value_weight(value)


def _family_bytes(family: Family) -> int:
    return MEMBER_BYTES * (1 + len(family.ids))
