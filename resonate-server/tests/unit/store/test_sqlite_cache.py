"""The cache of the SQLite store is bounded by the size of what it holds, not by the number of rows."""

from collections.abc import Callable
from pathlib import Path
from typing import override

import pytest
from unit.rows import changes, promise, transaction

from resonate_server.kernel.model import Footprint, PutCallback, PutListener
from resonate_server.kernel.sizes import is_read
from resonate_server.protocol.records import Value
from resonate_server.store.sqlite import Database
from resonate_server.store.sqlite.cache import Cache

PAYLOAD = Value(data="x" * 50_000)
LARGE = Value(data="x" * 100_000)


class CountingStore(Database):
    """Counts statements, except those that fold a full log into the file now and then."""

    def __init__(self, path: Path, cache_bytes: int = 1_000_000) -> None:
        super().__init__(path, "NORMAL", cache_bytes)
        self.statements = 0
        self._db.set_trace_callback(self._count)

    def _count(self, _: str) -> None:
        self.statements += 1

    @override
    def _fold(self) -> None:
        before = self.statements
        super()._fold()
        self.statements = before

    def create(self, *ids: str) -> None:
        """Create promises as a request does, looking them up first."""
        with transaction(self):
            self.load(Footprint(ids=ids))
            self.write(changes(*(promise(id) for id in ids)))

    def look_up(self, id: str) -> None:
        with transaction(self):
            self.load(Footprint(ids=(id,)))


IDS = [f"p-{number}" for number in range(150)]


@pytest.mark.parametrize("act", [CountingStore.create, CountingStore.look_up], ids=["written", "only read"])
def test_unused_rows_are_evicted(path: Path, act: Callable[[CountingStore, str], None]) -> None:
    """And a promise that does not exist is not remembered for ever."""
    store = CountingStore(path, cache_bytes=100_000)
    store.create(*([] if act is CountingStore.create else IDS))
    for id in IDS:
        act(store, id)
        store.look_up(f"missing {id}")
    before = store.statements
    store.look_up(IDS[0])
    assert store.statements > before
    assert store._absent == set()


def test_few_promises_with_large_payloads_are_kept() -> None:
    cache, kept = Cache(1_000_000), []
    for number in range(100):
        cache.put(promise(f"p-{number}", param=PAYLOAD))
        cache.end_transaction()
        kept.append(sum(cache.get(f"p-{each}") is not None for each in range(100)))
    assert 15 <= max(kept) <= 25


def test_large_payloads_are_not_kept_and_leave_room_for_others() -> None:
    cache = Cache(1_000_000)
    for number in range(100):
        entry = cache.put(promise(f"p-{number}"))
        cache.replace(entry, promise(f"p-{number}", param=LARGE, value=LARGE))
        cache.end_transaction()

    kept = [found.promise for number in range(100) if (found := cache.get(f"p-{number}")) is not None]
    assert len(kept) == 100
    assert not any(map(is_read, kept))


def test_awaiting_a_popular_promise_costs_no_more_than_any_other(path: Path) -> None:
    store = CountingStore(path)
    store.create("p", *(f"w-{number}" for number in range(150)))

    costs = []
    for number in range(150):
        before = store.statements
        with transaction(store):
            store.load(Footprint(ids=("p", f"w-{number}")))
            store.write(changes(PutCallback("p", f"w-{number}"), PutListener("p", f"a-{number}")))
        costs.append(store.statements - before)

    assert max(costs[100:]) <= max(costs[:50]) + 1
