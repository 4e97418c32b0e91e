"""Chains as the page shows them: the list and its filters, a single chain, and bounds for both."""

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from unit.driver import PID, SECOND, START, Driver, promise_create, value
from unit.rows import changes, promise, transaction

from resonate_server.protocol.payload import MAX_TEXT
from resonate_server.protocol.records import Promise, PromiseState, Role, Value
from resonate_server.store.found import Place
from resonate_server.store.sqlite import IN_MEMORY, Database
from resonate_server.store.view import View
from resonate_server.watch import chain_reader, derive
from resonate_server.watch.absences import ConnectionHistory, Outages
from resonate_server.watch.chain_reader import (
    MAX_PORTIONS,
    MAX_PROMISES,
    PORTION,
    BadCursor,
    ChainQuery,
    ChainReader,
    decode_place,
    encode_place,
)
from resonate_server.watch.ring import Ring
from resonate_server.watch.views import ChainView, PromiseView

PENDING, RESOLVED = PromiseState.PENDING, PromiseState.RESOLVED


def calling(function: str) -> Value:
    return value(b64encode(msgspec.json.encode({"func": function, "args": []})).decode())


class Counting(Database):
    """A store that counts the roots read from it."""

    roots = 0

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        for root in super().recent_roots(state, before, now):
            self.roots += 1
            yield root


class Scene:
    """Chains in a store that a driver fills; the driver's decisions are in the ring."""

    def __init__(self, store: Counting) -> None:
        self.store = store
        self.driver = Driver(store)
        self.ring = Ring()
        self.history = ConnectionHistory(START)
        self.history.connected("workers", PID, START)
        outages = Outages(None, lambda: self.driver.now, lambda _: None)
        self.chains = ChainReader(self, self.ring, self.history, outages, lambda: self.driver.now)
        self.reads = 0

    async def read[T](self, query: Callable[[View], T]) -> T:
        self.reads += 1
        with transaction(self.store):
            return query(self.store)

    def remember(self) -> None:
        """Let the watch see what was decided so far."""
        for decided in self.driver.decided:
            for event in derive.events(decided):
                self.ring.append(event)
        self.driver.decided.clear()

    async def ids(self, limit: int = 50, **wanted: Any) -> list[str]:
        """Return the ids on all pages, read one after another."""
        found: list[str] = []
        before = None
        while True:
            page = await self.chains.page(ChainQuery(limit=limit, before=before, **wanted))
            found += [chain.id for chain in page.chains]
            if page.next is None:
                return found
            before = decode_place(page.next)

    async def view(self, id: str, prefix: str = "") -> ChainView:
        view = await self.chains.view(id, prefix)
        assert view is not None
        return view

    async def promise(self, id: str) -> PromiseView:
        (found,) = [each for each in (await self.view(id)).promises if each.id == id]
        return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    store = Counting(IN_MEMORY)
    yield Scene(store)
    store.close()


@pytest.fixture
def three(scene: Scene) -> Scene:
    """Three chains, created a second apart, one of them settled."""
    for id in ("foo-a", "foo-b", "other"):
        scene.driver.create(id, param=calling("bar" if id == "other" else "foo"))
        scene.driver.create(f"{id}:1", origin=id)
        scene.driver.now += SECOND
    scene.driver.settle("foo-a")
    return scene


class TestList:
    async def test_a_line_describes_its_chain(self, three: Scene) -> None:
        page = await three.chains.page(ChainQuery(limit=3))
        pending, *_, settled = page.chains
        assert (pending.func, pending.group, pending.state) == ("bar", "workers", PENDING)
        assert (pending.created_at, pending.settled_at) == (START + 2 * SECOND, None)
        assert (settled.state, settled.settled_at) == (RESOLVED, START + 3 * SECOND)

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 50])
    async def test_pages_add_up_to_all_roots_newest_first(self, three: Scene, limit: int) -> None:
        assert await three.ids(limit=limit) == ["other", "foo-b", "foo-a"]

    @pytest.mark.parametrize("state", [None, RESOLVED])
    async def test_cursors_name_no_ids_of_others_and_skip_nothing(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, state: PromiseState | None
    ) -> None:
        """A search may end at anybody's chain, before or after those with the prefix that began in the same ms."""
        monkeypatch.setattr(chain_reader, "PORTION_MS", 0)
        monkeypatch.setattr(chain_reader, "MAX_PORTIONS", 1)
        ids = [f"{owner}-{number}" for owner in ("a", "mine", "z") for number in range(3)]
        for _ in range(2):
            for id in ids:
                scene.driver.create(f"{id}-{scene.driver.now}")
                scene.driver.settle(f"{id}-{scene.driver.now}")
            scene.driver.now += SECOND
        found: list[str] = []
        before: str | None = ""
        while before is not None:
            place = decode_place(before) if before else None
            page = await scene.chains.page(ChainQuery(limit=50, before=place, state=state, prefix="mine-"))
            found += [chain.id for chain in page.chains]
            before = page.next
            assert before is None or decode_place(before).id in [*found, "\x01", "mine-\U0010ffff"]
        assert found == sorted(found, key=lambda id: (id[7:], id), reverse=True)
        assert len(found) == 6

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"state": PENDING}, ["other", "foo-b"]),
            ({"state": RESOLVED}, ["foo-a"]),
            ({"prefix": "foo-"}, ["foo-b", "foo-a"]),
            ({"text": "FOO-"}, ["foo-b", "foo-a"]),
            ({"text": "Bar"}, ["other"]),
            ({"text": "foo-a"}, ["foo-a"]),
            ({"text": "%"}, []),
            ({"text": "_"}, []),
        ],
        ids=str,
    )
    async def test_chains_are_found_by_state_prefix_or_text_in_id_or_function_ignoring_case(
        self, three: Scene, wanted: dict[str, Any], found: list[str]
    ) -> None:
        assert await three.ids(**wanted) == found


class TestChain:
    async def test_promises_are_shown_readable(self, scene: Scene) -> None:
        scene.driver.create("p", param=calling("bar"), parent="p", timer="false")
        scene.driver.settle("p", PromiseState.REJECTED, value("eyJtZXNzYWdlIjoibm8ifQ=="))
        shown = await scene.promise("p")
        assert (shown.func, shown.parent, shown.state) == ("bar", None, PromiseState.REJECTED)
        assert shown.value is not None and shown.value.text == '{"message":"no"}'
        assert shown.tags["resonate:timer"] == "false"

    async def test_a_held_task_shows_its_holder_and_attempt(self, scene: Scene) -> None:
        scene.driver.create_task(promise_create("t"), ttl=5 * SECOND)
        task = (await scene.promise("t")).task
        assert task is not None
        assert (task.state, task.attempt, task.pid) == ("acquired", 1, PID)
        assert task.retry_at is None

    @pytest.mark.parametrize(
        ("tags", "role"),
        [({"external": "false"}, Role.STEP), ({"scope": "global"}, Role.PROMISE), ({"external": "true"}, Role.PROMISE)],
        ids=["a step", "of global scope", "external"],
    )
    async def test_an_externally_settled_promise_is_distinguished_from_a_step(
        self, scene: Scene, tags: dict[str, Any], role: Role
    ) -> None:
        scene.driver.create("p:1", target=None, origin="p", parent="p", **tags)
        assert (await scene.promise("p:1")).role is role

    async def test_a_prefix_leaves_out_what_belongs_to_others(self, scene: Scene) -> None:
        scene.driver.create("yours")
        scene.driver.create("yours:mine", origin="yours", parent="yours")
        scene.remember()
        view = await scene.view("yours:mine", prefix="yours:")
        assert [(each.id, each.parent) for each in view.promises] == [("yours:mine", None)]

    async def test_a_prefix_hides_awaited_calls_of_others(self, scene: Scene) -> None:
        scene.driver.suspended("mine", "yours", "mine-too")
        scene.remember()
        view = await scene.view("mine", prefix="mine")
        (call,) = [each for each in view.promises if each.id == "mine"]
        assert call.awaits == call.phases[-1].on == ["mine-too"]

    async def test_a_megabyte_is_cut(self, scene: Scene) -> None:
        scene.driver.create("p", param=value(b64encode(b"x" * 1_000_000).decode()))
        param = (await scene.promise("p")).param
        assert param is not None
        assert (len(param.text), param.cut, param.bytes) == (MAX_TEXT, True, 1_000_000)

    @staticmethod
    def fill(scene: Scene, count: int, **tags: str) -> None:
        """Write a chain of ``count`` promises below ``p``."""
        tags = {"resonate:origin": "p", **tags}
        with transaction(scene.driver.store):
            rows = [promise(f"p:{number:05}", tags=tags) for number in range(count)]
            scene.driver.store.write(changes(promise("p"), *rows))

    async def test_a_very_large_chain_is_cut_and_says_so(self, scene: Scene) -> None:
        self.fill(scene, MAX_PROMISES + 5)
        view = await scene.view("p")
        assert (len(view.promises), view.cut) == (MAX_PROMISES, True)
        assert view.promises[0].id == "p"

    async def test_a_chain_with_very_much_text_in_its_tags_is_cut(self, scene: Scene) -> None:
        self.fill(scene, 500, **{f"tag-{number}": "x" * 1_000 for number in range(50)})
        view = await scene.view("p")
        assert view.cut
        assert 100 < len(view.promises) < 400  # as many as fit into 6 MiB, plus the rest of the last portion


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """6,000 settled chains, and a pending one whose id sorts before all of them."""
    store = Counting(tmp_path_factory.mktemp("full") / "state.db", "NORMAL")
    rows = (promise(f"foo-{number:06}", RESOLVED, tags={"a": "b"}) for number in range(6_000))
    with transaction(store):
        store.write(changes(*rows, promise("bar")))
    yield Scene(store)
    store.close()


class TestBounds:
    """The amount of reading does not depend on how much is stored, and is done in portions."""

    @pytest.fixture(autouse=True)
    def count_from_zero_with_all_the_time_in_the_world(self, full: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        full.reads, full.store.roots = 0, 0
        monkeypatch.setattr(chain_reader, "PORTION_MS", 60_000)

    @pytest.mark.parametrize(
        ("before", "ids"),
        [
            (None, ["foo-005999", "foo-005950"]),
            (Place(promise("x").created_at, "foo-003000"), ["foo-002999", "foo-002950"]),
        ],
        ids=["the first", "one far down"],
    )
    async def test_a_page_reads_only_its_own_rows(self, full: Scene, before: Place | None, ids: list[str]) -> None:
        page = await full.chains.page(ChainQuery(limit=50, before=before))
        assert [page.chains[0].id, page.chains[-1].id] == ids
        assert full.store.roots <= 51

    async def test_chains_of_a_rare_state_are_found_without_reading_the_others(self, full: Scene) -> None:
        page = await full.chains.page(ChainQuery(limit=50, state=PENDING))
        assert [line.id for line in page.chains] == ["bar"]
        assert full.store.roots == 1

    async def test_a_search_for_an_absent_text_continues_in_portions(self, full: Scene) -> None:
        page = await full.chains.page(ChainQuery(limit=50, text="nowhere"))
        assert (page.chains, page.next is not None) == ([], True)
        assert full.store.roots <= (PORTION + 1) * MAX_PORTIONS
        assert full.reads <= MAX_PORTIONS + 1

    @pytest.mark.parametrize(
        ("limit", "value"), [("PORTION_MS", 0), ("PORTION_BYTES", -1)], ids=["took its time", "has seen much payload"]
    )
    async def test_a_piece_of_work_ends_when_it(
        self, full: Scene, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
    ) -> None:
        monkeypatch.setattr(chain_reader, limit, value)
        await full.chains.page(ChainQuery(limit=50, text="nowhere"))
        assert full.store.roots == 2 * MAX_PORTIONS  # One more each, to see whether there are more.


@pytest.mark.parametrize("id", ["foo", "a:1/2", "é😀", "<img>"])
def test_a_cursor_can_mark_any_place(id: str) -> None:
    assert decode_place(encode_place(Place(5, id))) == Place(5, id)


NO_PLACES = (b"[]", b'["a",1]', b"[1]", b'[-1,"a"]', b'[99999999999999999999,"a"]', rb'[1,"a\u0000"]', b"[" * 20_000)
CURSORS = [
    "x",
    "====",
    "é",
    encode_place(Place(5, "a"))[:-4],
    *(urlsafe_b64encode(each).decode() for each in NO_PLACES),
]


@pytest.mark.parametrize("cursor", CURSORS, ids=lambda cursor: cursor[:40])
def test_other_cursors_are_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        decode_place(cursor)
