"""A cache of rows in use: most requests touch rows that were touched a moment ago.

It may be emptied whenever all writes are in the database, and always holds what the database would return once they
are. Nothing is evicted during a transaction, so whatever a transaction has looked at stays cached until its end.
"""

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.kernel.model import Task, Unread
from resonate_server.kernel.sizes import value_weight
from resonate_server.protocol.records import Promise, Value

CACHE_BYTES = 12 * 1_024 * 1_024
"""Approximate limit of one generation: about 6,000 promises with small payloads. Two generations are kept."""

ENTRY_BYTES = 2_000
"""Rough size of an entry without its payloads: it only bounds the total."""

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


class Entry(Struct, eq=False):
    """A promise, whose payloads may be :class:`Unread`, and its task."""

    promise: Promise
    task: Task | None = None


class Cache:
    """Entries by id, of bounded weight; evicts what was not used during a whole generation. ``limit`` in bytes,
    approximately.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._young: dict[str, Entry] = {}
        self._old: dict[str, Entry] = {}

    def get(self, id: str) -> Entry | None:
        entry = self._young.get(id)
        if entry is None:
            entry = self._old.get(id)
            if entry is not None:
                self._keep(id, entry)
        return entry

    def put(self, promise: Promise, task: Task | None = None) -> Entry:
        """Return the new entry."""
        entry = Entry(without_large_payloads(promise), task)
        self._keep(promise.id, entry)
        return entry

    def replace(self, entry: Entry, promise: Promise) -> None:
        """Replace the promise of ``entry``."""
        entry.promise = without_large_payloads(promise)
        self._weight += _payload_bytes(entry.promise)

    def age(self) -> None:
        """Begin a new generation if this one is full. Between transactions only."""
        if self._weight > self._limit:
            self._old, self._young, self._weight = self._young, {}, 0

    def clear(self) -> None:
        self._young, self._old, self._weight = {}, {}, 0

    def _keep(self, id: str, entry: Entry) -> None:
        self._young[id] = entry
        self._weight += ENTRY_BYTES + sum(map(len, entry.promise.tags.values())) + _payload_bytes(entry.promise)


def _payload_bytes(promise: Promise) -> int:
    return _bytes_here(promise.param) + _bytes_here(promise.value)


def _bytes_here(value: Value) -> int:
    return 0 if isinstance(value, Unread) else value_weight(value)
