"""The cache of the SQLite store is bounded by what it holds, not by how many."""

from pathlib import Path
from typing import override

import pytest
from unit.rows import changes, promise, transaction

from resonate_server.kernel.model import DropCallback, DropListener, Footprint, PutCallback, PutListener
from resonate_server.kernel.preload import is_read
from resonate_server.protocol.records import Promise, Value
from resonate_server.store.sqlite import Database
from resonate_server.store.sqlite.cache import MAX_LINKS, Cache, Entry, new_entry

PAYLOAD = Value(data="x" * 50_000)
LARGE = Value(data="x" * 100_000)


class CountingStore(Database):
    """Counts statements, but not those by which a full log is folded into the file now and then."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "NORMAL", cache_bytes=1_000_000)
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
        """In the way of a request: looked for first."""
        with transaction(self):
            self.load(Footprint(ids=ids))
            self.write(changes(*(promise(id) for id in ids)))

    def statements_to_load(self, id: str) -> int:
        before = self.statements
        assert id in self.load(Footprint(ids=(id,))).promises
        return self.statements - before


def test_what_was_just_written_is_not_asked_for(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "state.db")
    store.create("p")
    assert store.statements_to_load("p") == 0


def test_what_was_just_read_is_not_asked_for_again(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "state.db")
    with transaction(store):
        store.write(changes(promise("p")))
    assert store.statements_to_load("p") > 0
    assert store.statements_to_load("p") == 0


def test_what_nobody_asks_for_is_forgotten(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "state.db")
    store.create("old")
    for number in range(2_000):
        store.create(f"p-{number}")
    assert store.statements_to_load("old") > 0


def test_what_is_asked_for_stays(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "state.db")
    store.create("used")
    for number in range(2_000):
        store.create(f"p-{number}")
        assert store.statements_to_load("used") == 0


def test_of_promises_with_much_payload_there_are_few() -> None:
    cache = Cache(1_000_000)
    for number in range(100):
        cache.put(Entry(promise=promise(f"p-{number}", param=PAYLOAD)))
        cache.age()
    kept = [number for number in range(100) if cache.get(f"p-{number}") is not None]
    assert 20 <= len(kept) <= 45


def test_large_payloads_are_not_kept_and_leave_room_for_others() -> None:
    cache = Cache(1_000_000)
    for number in range(100):
        entry = Entry(promise=promise(f"p-{number}"))
        cache.put(entry)
        cache.replace(entry, promise(f"p-{number}", param=LARGE, value=LARGE))
        cache.age()

    kept = [found.promise for number in range(100) if (found := cache.get(f"p-{number}")) is not None]
    assert len(kept) == 100
    assert not any(map(is_read, kept))


def test_a_value_that_comes_later_counts() -> None:
    cache = Cache(1_000_000)
    for number in range(100):
        entry = Entry(promise=promise(f"p-{number}"))
        cache.put(entry)
        cache.replace(entry, promise(f"p-{number}", value=PAYLOAD))
        cache.age()

    assert cache.get("p-0") is None
    assert cache.get("p-99") is not None


def test_waiting_for_a_popular_promise_costs_what_it_costs_for_any(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "state.db")
    store.create("p", *(f"w-{number}" for number in range(600)))

    costs = []
    for number in range(600):
        before = store.statements
        with transaction(store):
            store.load(Footprint(ids=("p", f"w-{number}")))
            store.write(changes(PutCallback("p", f"w-{number}"), PutListener("p", f"a-{number}")))
        costs.append(store.statements - before)

    assert max(costs[300:]) <= max(costs[:100]) + 1


def test_who_waits_is_bounded_and_counts() -> None:
    cache = Cache(1_000_000)
    for number in range(100):
        cache.put(new_entry(promise(f"p-{number}")))
        for waiting in range(1_000):
            cache.apply(PutListener(f"p-{number}", f"{waiting}-{'x' * 1_000}"))
        cache.age()

    kept = [entry for number in range(100) if (entry := cache.get(f"p-{number}")) is not None]
    assert 1 <= len(kept) <= 15
    assert all(entry.listeners is None for entry in kept)


def test_after_a_rollback_nothing_of_it_is_remembered(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "state.db")
    store.create("p")
    store.load(Footprint(ids=("q",)))
    store.write(changes(promise("q")))
    store.rollback()
    assert set(store.load(Footprint(ids=("p", "q"))).promises) == {"p"}


@pytest.fixture
def linked() -> Cache:
    """``p`` is awaited by ``w``, and listened to at ``a``."""
    cache = Cache(1_000_000)
    for id in "pw":
        cache.put(new_entry(promise(id)))
    cache.apply(PutCallback("p", "w"))
    cache.apply(PutListener("p", "a"))
    return cache


def links(cache: Cache) -> tuple[list[str], list[str], list[str]]:
    """Who is woken by ``p``, who listens to it, and what ``w`` awaits."""
    awaited, awaiter = cache.get("p"), cache.get("w")
    assert awaited is not None and awaiter is not None
    assert awaited.callbacks is not None and awaited.listeners is not None and awaiter.awaits is not None
    return list(awaited.callbacks), list(awaited.listeners), list(awaiter.awaits)


def test_links_are_kept_on_both_sides(linked: Cache) -> None:
    assert links(linked) == (["w"], ["a"], ["p"])


@pytest.mark.parametrize(
    ("drop", "left"),
    [
        (DropCallback("p", "w"), ([], ["a"], [])),
        (DropListener("p", "a"), (["w"], [], ["p"])),
        (DropCallback("p", "others"), (["w"], ["a"], ["p"])),
        (DropListener("p", "others"), (["w"], ["a"], ["p"])),
        (DropListener("others", "a"), (["w"], ["a"], ["p"])),
    ],
)
def test_one_that_is_dropped_is_gone_on_both_sides(
    linked: Cache, drop: DropCallback | DropListener, left: tuple[list[str], list[str], list[str]]
) -> None:
    linked.apply(drop)
    assert links(linked) == left


def test_all_that_would_wake_somebody_can_be_dropped_at_once(linked: Cache) -> None:
    linked.drop_callbacks("w", ["p", "others"])
    assert links(linked) == ([], ["a"], [])


def test_links_that_are_not_known_stay_so() -> None:
    cache = Cache(1_000_000)
    for id in "pw":
        cache.put(Entry(promise=promise(id)))
    for link in (PutCallback("p", "w"), PutListener("p", "a"), DropCallback("p", "w"), DropListener("p", "a")):
        cache.apply(link)
    for entry in (cache.get("p"), cache.get("w")):
        assert entry is not None
        assert (entry.callbacks, entry.listeners, entry.awaits) == (None, None, None)


def test_so_many_links_are_kept_and_no_more() -> None:
    cache = Cache(1_000_000)
    entry = new_entry(promise("p"))
    cache.put(entry)
    for number in range(MAX_LINKS):
        cache.apply(PutListener("p", str(number)))
    cache.apply(PutListener("p", "0"))
    assert entry.listeners is not None and len(entry.listeners) == MAX_LINKS
    cache.apply(PutListener("p", "one more"))
    assert entry.listeners is None


def member(id: str, branch: str, parent: str) -> Promise:
    return promise(id, tags={"resonate:branch": branch, "resonate:parent": parent})


def test_a_family_is_remembered_by_its_id() -> None:
    cache = Cache(1_000_000)
    cache.add_to_families(member("c", "b", "r"))
    cache.add_to_families(promise("alone"))
    assert cache.branch("b").ids == cache.children("r").ids == {"c"}
    assert cache.branch("r").ids == cache.children("b").ids == cache.branch("").ids == set()
    cache.branch("b").complete = True
    assert cache.branch("b").complete and not cache.branch("r").complete


def test_one_that_is_too_large_is_not_kept() -> None:
    family = Cache(1_000_000).branch("b")
    family.add("c")
    family.complete = True
    family.give_up()
    family.add("d")
    assert (family.ids, family.complete, family.large) == (set(), False, True)


def test_families_that_nobody_asks_for_are_forgotten() -> None:
    cache = Cache(1_000_000)
    cache.add_to_families(member("c", "b", "r"))
    for number in range(20_000):
        cache.add_to_families(member(f"p-{number}", f"b-{number % 50}", f"r-{number % 50}"))
        cache.age()
    assert cache.branch("b").ids == cache.children("r").ids == set()


def test_a_cache_that_is_cleared_knows_nothing(linked: Cache) -> None:
    linked.add_to_families(member("c", "b", "r"))
    linked.clear()
    assert (linked.get("p"), linked.branch("b").ids, linked.children("r").ids) == (None, set(), set())
