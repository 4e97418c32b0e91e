"""A cache of rows in use: most requests touch rows that were touched a moment ago.

It always holds what the database would return. Nothing is evicted during a transaction, so whatever a transaction has
looked at stays cached until its end.
"""

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.kernel.model import Task, Unread
from resonate_server.kernel.sizes import value_weight
from resonate_server.protocol.records import Promise, Value

CACHE_BYTES = 24 * 1_024 * 1_024
"""About 12,000 promises with small payloads. Few of them are in use, and these are soon read again."""

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
    """Entries by id. ``limit`` in bytes, approximately: a cache that exceeds it is emptied."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._weight = 0
        self._entries: dict[str, Entry] = {}

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def put(self, promise: Promise, task: Task | None = None) -> Entry:
        """Return the new entry."""
        entry = self._entries[promise.id] = Entry(without_large_payloads(promise), task)
        self._weight += ENTRY_BYTES + sum(map(len, promise.tags.values())) + _payload_bytes(entry.promise)
        return entry

    def replace(self, entry: Entry, promise: Promise) -> None:
        """Replace the promise of ``entry``."""
        entry.promise = without_large_payloads(promise)
        self._weight += _payload_bytes(entry.promise)

    def end_transaction(self) -> None:
        if self._weight > self._limit:
            self.clear()

    def clear(self) -> None:
        self._entries.clear()
        self._weight = 0


def _payload_bytes(promise: Promise) -> int:
    return _bytes_here(promise.param) + _bytes_here(promise.value)


def _bytes_here(value: Value) -> int:
    return 0 if isinstance(value, Unread) else value_weight(value)
