"""What a store guarantees: :class:`resonate_server.store.Store`, sentence by sentence."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from msgspec.structs import replace
from unit.rows import LATER, NOW, Row, changes, promise, schedule, snapshot, task, transaction, write
from unit.store.stores import seen

from resonate_server.kernel.model import (
    Changes,
    DropCallback,
    DropCallbacks,
    DropListener,
    DropSpreading,
    Due,
    Footprint,
    LinkChange,
    LinkFootprint,
    PutCallback,
    PutListener,
    PutSpreading,
    Rows,
    Spreading,
    Task,
)
from resonate_server.kernel.sizes import weight
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import Promise, PromiseState, Schedule, TaskState, Value
from resonate_server.protocol.requests import MAX_INTEGER, PromiseSearch, ScheduleSearch, Search, TaskSearch
from resonate_server.store.found import Snapshot
from resonate_server.store.sqlite import Database
from resonate_server.store.sqlite.clock import ClockMark

PENDING, RESOLVED = PromiseState.PENDING, PromiseState.RESOLVED

EXTERNAL = {"resonate:external": "true"}
"""Tags of a promise whose deadline counts as due work."""

ODD = [*"'\"\\%_*\n\u2028é\uff5e😀", "e\u0301", "a b", "--", "$.x", "[0]", "a\x00b"]
ADDRESS = "poll://uni@callers/caller-1"


@pytest.fixture
def store(each_store: Database) -> Database:
    """Typed as SQLite's, which PostgreSQL's looks like to tests."""
    return each_store


def load(store: Database, *ids: str, preload_for: str | None = None, branch: str | None = None) -> Rows:
    with transaction(store):
        return store.load(Footprint(ids=ids, shown=ids, preload_for=preload_for, branch=branch))


def links(store: Database, *ids: str, limit: int = 1_000) -> Rows:
    with transaction(store):
        rows = store.load(Footprint(ids=ids))
        store.load_links(rows, LinkFootprint(spreading=tuple(map(Spreading, ids)), limit=limit))
    return rows


def found(store: Database, search: Search) -> list[str]:
    with transaction(store):
        return [each.id for each in store.search(search, NOW)]


class TestRows:
    def test_promises_come_back_as_they_were_written(self, store: Database) -> None:
        given = Value(headers={"h": "1"}, data="x"), Value(data="y")
        tags = {"resonate:target": "poll://any@workers", "resonate:branch": "b", "own": ""}
        written = {
            state.value: promise(state.value, state, param=given[0], value=given[1], timeout_at=MAX_INTEGER, tags=tags)
            for state in PromiseState
        }
        write(store, *written.values())

        assert load(store, *written).promises == written

    def test_an_absent_member_of_a_value_is_not_an_empty_one(self, store: Database) -> None:
        values = [Value(), Value(data=""), Value(headers={}), Value(headers={"": ""}, data="é\0")]
        written = {str(number): promise(str(number), param=each, value=each) for number, each in enumerate(values)}
        write(store, *written.values())

        assert load(store, *written).promises == written

    def test_a_promise_written_again_is_replaced_in_state_value_and_time_of_settlement(self, store: Database) -> None:
        write(store, promise("p"))
        settled = promise("p", RESOLVED, value=Value(data="y"), settled_at=NOW + 5)

        write(store, settled)

        assert load(store, "p").promises["p"] == settled

    def test_odd_ids_and_tags_are_kept_apart(self, store: Database) -> None:
        """Also ids that differ only in case or composition."""
        ids = [*(text for text in ODD if "\x00" not in text), "É", "é", "e\u0301", "%%"]
        written = {id: promise(id, tags={odd: odd + id for odd in ODD}) for id in ids}
        write(store, *written.values())

        assert load(store, *ids, "E").promises == written

    def test_tasks_come_back_as_they_were_written(self, store: Database) -> None:
        written = {
            state.value: Task(
                id=state.value,
                target="poll://any@workers/pid%2F1",
                state=state,
                version=MAX_INTEGER,
                resumes=3,
                ttl=MAX_INTEGER,
                pid="pid-1",
                claim="corr-id",
                timer_at=MAX_INTEGER,
                queued=True,
                releases=2,
                lost_at=7,
                reason="no such function",
            )
            for state in TaskState
        }
        write(store, *map(promise, written), *written.values())

        assert load(store, *written).tasks == written

    def test_a_task_written_again_is_replaced_in_every_member_except_its_target(self, store: Database) -> None:
        before = Task("t", "poll://any@workers", TaskState.ACQUIRED, 1, 2, 3, "pid-1", "corr-id", 4, True, 5)
        after = Task("t", "poll://any@workers", TaskState.PENDING, 6, 7, None, None, None, None, False, 8)
        write(store, promise("t"), before)

        write(store, after)

        assert load(store, "t").tasks["t"] == after


class TestLinks:
    @pytest.fixture(autouse=True, params=["unread", "read"])
    def promises(self, store: Database, request: pytest.FixtureRequest) -> None:
        """The promises at both ends of the links; whether a store has read them before makes no difference."""
        ids = ("p", "q", "a", "b")
        write(store, *map(promise, ids))
        if request.param == "read":
            load(store, *ids)

    def test_an_awaiter_is_loaded_with_the_awaited_and_with_its_own_task_but_not_its_awaiters(
        self, store: Database
    ) -> None:
        write(store, task("a"), PutCallback("p", "a"), PutCallback("a", "b"))

        rows = links(store, "p")

        assert (rows.awaiters, set(rows.promises), set(rows.tasks)) == ({"p": ["a"]}, {"p", "a"}, {"a"})

    def test_a_link_put_twice_is_one_and_one_dropped_without_being_there_is_none(self, store: Database) -> None:
        callback, listener = PutCallback("p", "a"), PutListener("p", ADDRESS)
        write(store, callback, callback, listener, listener)
        write(store, DropCallback("q", "a"), DropCallbacks("b"), DropListener("q", ADDRESS))

        rows = links(store, "p", "q")

        assert (rows.awaiters, rows.listeners) == ({"p": ["a"], "q": []}, {"p": [ADDRESS], "q": []})

    @pytest.mark.parametrize(
        ("drop", "awaiters", "listeners"),
        [
            pytest.param(DropCallback("p", "a"), (["b"], ["a", "b"]), (["a", "b"], ["a", "b"]), id="one awaiter"),
            pytest.param(DropCallbacks("a"), (["b"], ["b"]), (["a", "b"], ["a", "b"]), id="all of one awaiter"),
            pytest.param(DropListener("p", "a"), (["a", "b"], ["a", "b"]), (["b"], ["a", "b"]), id="one listener"),
        ],
    )
    def test_links_are_dropped(
        self, store: Database, drop: LinkChange, awaiters: tuple[list[str], ...], listeners: tuple[list[str], ...]
    ) -> None:
        write(store, *(put(p, a) for put in (PutCallback, PutListener) for p in ("p", "q") for a in ("a", "b")))

        write(store, drop)

        left = links(store, "p", "q")
        assert (tuple(left.awaiters.values()), tuple(left.listeners.values())) == (awaiters, listeners)

    @pytest.mark.parametrize("drop", [DropCallback("p", "a"), DropCallbacks("a")], ids=["one", "all"])
    def test_links_apply_in_their_order(self, store: Database, drop: DropCallback | DropCallbacks) -> None:
        write(store, PutCallback("p", "a"), drop)
        assert links(store, "p").awaiters == {"p": []}

        write(store, drop, PutCallback("p", "a"))
        assert links(store, "p").awaiters == {"p": ["a"]}

    def test_the_limit_applies_to_all_links_together_and_complete_ones_are_reported(self, store: Database) -> None:
        write(store, *(PutCallback(p, a) for p in ("p", "q") for a in ("a", "b")), PutListener("p", ADDRESS))

        loaded = [links(store, "p", "q", limit=limit) for limit in range(6)]
        assert [(rows.awaiters, rows.complete) for rows in loaded] == [
            ({}, set()),
            ({"p": ["a"]}, set()),
            ({"p": ["a", "b"]}, set()),
            ({"p": ["a", "b"]}, {"p"}),
            ({"p": ["a", "b"], "q": ["a"]}, {"p"}),
            ({"p": ["a", "b"], "q": ["a", "b"]}, {"p", "q"}),
        ]

    def test_links_after_a_given_awaiter_are_loaded(self, store: Database) -> None:
        write(store, *(PutCallback("p", a) for a in ("a", "b")))

        rows = Rows()
        with transaction(store):
            store.load_links(rows, LinkFootprint(spreading=(Spreading("p", after="a"),), limit=1))
        assert (rows.awaiters, rows.complete) == ({"p": ["b"]}, {"p"})


class TestFootprint:
    def test_only_the_named_rows_are_loaded(self, store: Database) -> None:
        write(store, promise("p"), promise("q"), task("q"))

        rows = load(store, "p", "missing")

        assert (set(rows.promises), rows.tasks, rows.preload) == ({"p"}, {}, [])

    def test_thousands_of_ids_are_loaded_at_once(self, store: Database) -> None:
        ids = [f"p-{number}" for number in range(3_000)]
        write(store, *map(promise, ids))

        assert len(load(store, *ids).promises) == 3_000


def tagged(id: str, **tags: str) -> Promise:
    """``tags`` omit ``resonate:``."""
    return promise(id, tags={f"resonate:{name}": text for name, text in tags.items()})


class TestPreload:
    @pytest.mark.parametrize(
        ("written", "branch", "preloaded"),
        [
            pytest.param([tagged("t"), tagged("child", parent="t"), tagged("u")], None, {"child"}, id="its children"),
            pytest.param([tagged("step", branch="b")], "b", {"step"}, id="by the future branch of a new task"),
            pytest.param(
                [tagged("t"), tagged("step", branch="b")], "b", set(), id="by the stored branch if there is one"
            ),
            pytest.param([tagged("t", branch=""), tagged("u", branch="")], None, set(), id="no empty branch"),
            pytest.param(
                [tagged("t", branch="b"), tagged("step", branch="b"), tagged("u", branch="c"), tagged("v")],
                None,
                {"step"},
                id="its branch",
            ),
        ],
    )
    def test_promises_are_preloaded_for_a_task(
        self, store: Database, written: list[Promise], branch: str | None, preloaded: set[str]
    ) -> None:
        write(store, *written)

        assert {each.id for each in load(store, "t", preload_for="t", branch=branch).preload} - {"t"} == preloaded


class TestUndo:
    """A transaction that is not committed leaves no trace."""

    def fill(self, store: Database) -> None:
        tags = {"resonate:branch": "b", "resonate:parent": "held"}
        write(
            store,
            promise("queued", tags=tags, timeout_at=NOW + 1),
            task("queued", queued=True, timer_at=NOW + 2),
            promise("held", tags={"resonate:branch": "b"}),
            task("held", TaskState.ACQUIRED, pid="pid-1", timer_at=NOW + 3),
            promise("settled", RESOLVED),
            PutCallback("queued", "held"),
            PutListener("queued", ADDRESS),
            promise("tree", RESOLVED),
            promise("leaf", RESOLVED, tags={"resonate:origin": "tree", "resonate:branch": "b"}),
            task("leaf", TaskState.FULFILLED),
            schedule("s", next_run_at=NOW + 4),
        )
        with transaction(store):
            store.put_unblock(Unblock(promise=promise("settled", RESOLVED), address=ADDRESS), NOW)

    WRITES: ClassVar[dict[str, Callable[[Database], object]]] = {
        "new promise": lambda store: store.write(
            changes(promise("new", timeout_at=NOW, tags={"resonate:branch": "b", "resonate:parent": "held"}))
        ),
        "settled promise": lambda store: store.write(changes(promise("queued", RESOLVED))),
        "new task": lambda store: store.write(changes(promise("new"), task("new", queued=True, timer_at=NOW))),
        "dequeued task": lambda store: store.write(changes(task("queued"))),
        "queued task": lambda store: store.write(changes(task("held", queued=True, timer_at=NOW))),
        "new callback": lambda store: store.write(changes(PutCallback("held", "queued"))),
        "dropped callback": lambda store: store.write(changes(DropCallback("queued", "held"))),
        "dropped callbacks": lambda store: store.write(changes(DropCallbacks("held"))),
        "new listener": lambda store: store.write(changes(PutListener("held", ADDRESS))),
        "dropped listener": lambda store: store.write(changes(DropListener("queued", ADDRESS))),
        "new unblock": lambda store: store.put_unblock(Unblock(promise=promise("held"), address=ADDRESS), NOW),
        "unblock kept again": lambda store: store.put_unblock(Unblock(promise=promise("settled"), address=ADDRESS), 0),
        "new schedule": lambda store: store.write(changes(schedule("new", next_run_at=NOW))),
        "moved schedule": lambda store: store.write(changes(schedule("s", next_run_at=NOW))),
        "deleted schedule": lambda store: store.write(Changes(schedules={"s": None})),
        "dropped tree": lambda store: store.drop_settled_trees(NOW + 1, 10),
        "reset": lambda store: store.reset(),
        "dropped old unblocks": lambda store: store.drop_unblocks_before(NOW + 1),
    }

    @pytest.mark.parametrize("name", WRITES)
    def test_a_transaction_is_undone(self, store: Database, name: str) -> None:
        """Whatever was read in between (due rows must not be lost), and after it was sent to the database."""
        self.fill(store)
        before = seen(store)
        for then in (lambda _: None, snapshot, lambda store: store.flush()):
            self.WRITES[name](store)
            then(store)
            store.rollback()

            assert seen(store) == before


class TestDue:
    def due(self, store: Database, now: int, limit: int = 100) -> Due:
        with transaction(store):
            return store.due(now, limit)

    def next_due(self, store: Database) -> int | None:
        with transaction(store):
            return store.next_due()

    OPEN = promise("p", timeout_at=NOW, tags=EXTERNAL)
    EARLY, LATE = task("t", timer_at=NOW), task("t", timer_at=NOW + 10)

    @pytest.mark.parametrize(
        ("written", "now", "due", "next_due"),
        [
            pytest.param([OPEN, task("p", timer_at=NOW)], NOW - 1, Due(), NOW, id="nothing before its time"),
            pytest.param([OPEN], NOW, Due(promises=("p",)), NOW, id="a promise at its deadline"),
            pytest.param([OPEN], NOW + 1, Due(promises=("p",)), NOW, id="a promise past its deadline"),
            pytest.param([OPEN, promise("p", RESOLVED, timeout_at=NOW)], NOW, Due(), None, id="no settled promise"),
            pytest.param([promise("t"), EARLY], NOW, Due(tasks=("t",)), NOW, id="a task at its timer"),
            pytest.param(
                [promise("t"), EARLY, LATE], NOW + 9, Due(), NOW + 10, id="a moved timer at its new time only"
            ),
            pytest.param(
                [promise("t"), EARLY, LATE, EARLY, LATE, EARLY],
                NOW + 10,
                Due(tasks=("t",)),
                NOW,
                id="a timer moved back and forth only once",
            ),
            pytest.param(
                [promise("a"), PutSpreading(Spreading("a"), NOW), DropSpreading("a")],
                NOW,
                Due(),
                None,
                id="no settlement that has spread",
            ),
        ],
    )
    def test_what_is_due(self, store: Database, written: list[Row], now: int, due: Due, next_due: int | None) -> None:
        for row in written:
            write(store, row)

        assert self.due(store, now) == due
        assert self.next_due(store) == next_due

    def test_oldest_first_and_by_id_among_equals_up_to_the_limit_of_each_kind(self, store: Database) -> None:
        """And again, until it is done."""
        for id, at in (("late", 3), ("b", 2), ("a", 2), ("early", 1)):
            write(store, promise(id, timeout_at=at, tags=EXTERNAL), task(id, timer_at=at))

        ids = ("early", "a", "b", "late")
        assert self.due(store, NOW) == self.due(store, NOW) == Due(promises=ids, tasks=ids)
        assert self.due(store, NOW, limit=2) == Due(promises=ids[:2], tasks=ids[:2])

    def test_spreading_settlements_are_always_due_oldest_first(self, store: Database) -> None:
        a, b, c = Spreading("a", after="x"), Spreading("b"), Spreading("c")
        write(store, *map(promise, "abc"), PutSpreading(a, NOW + 2), PutSpreading(b, NOW), PutSpreading(c, NOW + 1))

        assert self.due(store, NOW, 2).spreading == (b, c)
        assert (self.next_due(store) or 0) <= NOW

    def test_next_due_is_the_earliest_of_all(self, store: Database) -> None:
        write(
            store,
            promise("p", timeout_at=NOW + 5, tags=EXTERNAL),
            promise("t", timeout_at=NOW + 9, tags=EXTERNAL),
            task("t", timer_at=NOW + 3),
        )

        assert self.next_due(store) == NOW + 3


class TestOwed:
    def queued(self, store: Database, group: str) -> list[str]:
        with transaction(store):
            return [each.id for each in store.queued_tasks(group, 100)]

    def test_queued_tasks_of_a_group_by_retry_time(self, store: Database) -> None:
        for id, at in (("third", 3), ("first", 1), ("no longer", 0), ("second", 2)):
            write(store, promise(id), task(id, queued=True, timer_at=at))
        write(store, task("no longer", TaskState.ACQUIRED, pid="pid-1", timer_at=1))

        assert self.queued(store, "workers") == ["first", "second", "third"]

    @pytest.mark.parametrize(
        ("target", "group", "queued"),
        [
            *[(target, "g", ["t"]) for target in ("poll://any@g/id", "poll://uni@g/id", "poll://any@%67")],
            pytest.param("poll://any@Workers", "workers", [], id="another case"),
            pytest.param("poll://any@Workers", "Workers", ["t"], id="the same case"),
            pytest.param("http://workers/", "workers", [], id="a push address"),
        ],
    )
    def test_a_group_is_found_by_any_spelling_of_its_address_and_no_other(
        self, store: Database, target: str, group: str, queued: list[str]
    ) -> None:
        write(store, promise("t"), task("t", target=target, queued=True, timer_at=1))

        assert self.queued(store, group) == queued

    def test_unclaimed_tasks_in_a_pause_are_found_by_group(self, store: Database) -> None:
        write(store, *map(promise, ("late", "early", "queued", "claimed", "new", "elsewhere")))
        write(store, task("late", unclaimed=1, timer_at=3), task("early", unclaimed=2, timer_at=2))
        write(store, task("queued", unclaimed=1, queued=True), task("claimed", TaskState.ACQUIRED, unclaimed=1))
        write(store, task("new"), task("elsewhere", target="poll://any@others", unclaimed=1))

        with transaction(store):
            assert store.set_aside_tasks("workers", 10) == ["early", "late"]
            assert store.set_aside_tasks("workers", 1) == ["early"]

    def test_held_tasks_are_those_of_one_process(self, store: Database) -> None:
        for id, pid in (("a", "pid-1"), ("b", "pid-2"), ("c", None)):
            write(store, promise(id), task(id, TaskState.ACQUIRED if pid else TaskState.PENDING, pid=pid))

        with transaction(store):
            assert store.held_tasks("pid-1") == ["a"]


class TestUnblocks:
    SETTLED = promise("p", RESOLVED, value=Value(data="y"))

    def keep(self, store: Database, address: str = ADDRESS, at: int = NOW) -> None:
        write(store, self.SETTLED)
        with transaction(store):
            store.put_unblock(Unblock(promise=self.SETTLED, address=address), at)

    def places(self, store: Database, group: str, member: str, after: int = 0) -> list[tuple[int, str]]:
        with transaction(store):
            return [(owed.place, owed.unblock.address) for owed in store.unblocks(group, member, after)]

    def addresses(self, store: Database, group: str = "callers", member: str = "caller-1") -> list[str]:
        return [address for _, address in self.places(store, group, member)]

    def test_each_member_is_owed_its_own_messages_and_those_for_any_member(self, store: Database) -> None:
        kept = ["poll://any@g", "poll://uni@g/b", "poll://any@g/a", "poll://uni@g/a", "poll://uni@g", "http://g/"]
        for address in kept:
            self.keep(store, address)

        assert self.addresses(store, "g", "a") == ["poll://any@g", "poll://any@g/a", "poll://uni@g/a"]
        assert self.addresses(store, "g", "b") == ["poll://any@g", "poll://uni@g/b", "poll://any@g/a"]
        assert self.addresses(store, "g", "c") == ["poll://any@g", "poll://any@g/a"]
        assert self.addresses(store, "other", "a") == []
        assert self.addresses(store, "", "") == ["http://g/"]

    def test_unblocks_come_in_order_after_a_given_place(self, store: Database) -> None:
        for address in ("poll://any@g/3", "poll://uni@g/a", "poll://any@g/1"):
            self.keep(store, address)
        first, *rest = self.places(store, "g", "a")

        assert first[1] == "poll://any@g/3"
        assert self.places(store, "g", "a", after=first[0]) == rest
        assert self.places(store, "g", "a", after=rest[-1][0]) == []

    def test_a_place_is_never_used_again(self, store: Database) -> None:
        """A reader asks only for what comes after the last place it has seen."""
        self.keep(store)
        [(place, _)] = self.places(store, "callers", "caller-1")
        with transaction(store):
            store.reset()
        self.keep(store)

        assert self.places(store, "callers", "caller-1", after=place)

    def test_there_is_one_unblock_per_promise_and_address_until_it_is_delivered(self, store: Database) -> None:
        self.keep(store)
        self.keep(store)
        self.keep(store, "poll://any@callers")
        assert sorted(self.addresses(store)) == ["poll://any@callers", ADDRESS]

        store.delivered(("p", ADDRESS))
        assert self.addresses(store) == ["poll://any@callers"]

    def test_unblocks_kept_since_before_a_time_are_dropped(self, store: Database) -> None:
        self.keep(store, at=NOW - 1)
        self.keep(store, "poll://any@callers", at=NOW)
        with transaction(store):
            store.drop_unblocks_before(NOW)

        assert self.addresses(store) == ["poll://any@callers"]


class TestSearch:
    def test_an_internal_promise_is_found_by_the_state_it_reads_as_at_the_time(self, store: Database) -> None:
        write(store, promise("over", timeout_at=NOW), promise("open", timeout_at=NOW + 1))

        assert found(store, PromiseSearch(state=PENDING)) == ["open"]
        with transaction(store):
            [over] = store.search(PromiseSearch(state=PromiseState.TIMEDOUT), NOW)
        assert (over.id, getattr(over, "state", None)) == ("over", PromiseState.TIMEDOUT)

    def test_order_is_by_code_point(self, store: Database) -> None:
        ids = ["\U0001f600", "\uff5e", "é", "e\u0301", "z", "Z", "10", "9", "a", "a:1", "a.1", "a-1", " "]
        write(store, *map(promise, ids))

        assert found(store, PromiseSearch()) == sorted(ids)

    def test_what_follows_a_cursor_which_need_not_be_an_id(self, store: Database) -> None:
        write(store, *map(promise, "éa"), *map(task, "éa"))

        for cursor, left in {"": ["a", "é"], "a": ["é"], "b": ["é"], "é": [], "a\x00": ["é"]}.items():
            assert found(store, PromiseSearch(cursor=cursor)) == found(store, TaskSearch(cursor=cursor)) == left

    def test_by_state(self, store: Database) -> None:
        write(store, *(promise(each.value, each) for each in PromiseState))
        for each in TaskState:
            write(store, promise(f"task {each.value}", PromiseState.CANCELED), task(f"task {each.value}", each))

        for state in set(PromiseState) - {PromiseState.CANCELED}:
            assert found(store, PromiseSearch(state=state)) == [state.value]
        for each in TaskState:
            assert found(store, TaskSearch(state=each)) == [f"task {each.value}"]

    def test_all_tags_must_match_exactly(self, store: Database) -> None:
        write(store, promise("both", tags={"a": "1", "b": "2", "c": "3"}), promise("other", tags={"a": "1", "b": "3"}))
        almost = ["1 ", "01", "1.0", "", "true"]
        write(store, promise("none"), *(promise(f"almost {each}", tags={"a": each, "b": "2"}) for each in almost))

        assert found(store, PromiseSearch(tags={"a": "1", "b": "2"})) == ["both"]

    def test_odd_characters_in_tags_match_nothing_else(self, store: Database) -> None:
        write(store, *(promise(f"{number:02}", tags={f"k{odd}": f"v{odd}"}) for number, odd in enumerate(ODD)))

        for number, odd in enumerate(ODD):
            assert found(store, PromiseSearch(tags={f"k{odd}": f"v{odd}"})) == [f"{number:02}"]
            for key, value in ((f"k{odd}", f"v{odd}x"), (f"k{odd}x", f"v{odd}"), ("k", f"v{odd}"), (f"k{odd}", "v")):
                assert found(store, PromiseSearch(tags={key: value})) == []

    def test_by_origin_which_may_be_empty_and_another_tag(self, store: Database) -> None:
        tags, empty = {"resonate:origin": "root"}, {"resonate:origin": ""}
        write(store, promise("root", tags=tags), promise("x", tags=tags | {"a": "1"}), promise("y", tags={"a": "1"}))
        write(store, promise("p", tags=empty))

        assert found(store, PromiseSearch(tags=tags)) == ["root", "x"]
        assert found(store, PromiseSearch(tags=tags | {"a": "1"})) == ["x"]
        assert found(store, PromiseSearch(tags=empty)) == ["p"]

    def test_state_tags_cursor_and_limit_together(self, store: Database) -> None:
        for number in range(20):
            state = RESOLVED if number % 2 else PENDING
            write(store, promise(f"{number:02}", state, tags={"third": str(number % 3)}))

        search = PromiseSearch(state=PENDING, tags={"third": "0"}, cursor="00", limit=1)
        assert found(store, search) == ["06", "12"]


class TestSchedules:
    def load(self, store: Database, id: str) -> dict[str, Schedule]:
        with transaction(store):
            return store.load(Footprint(schedule=id)).schedules

    def test_a_schedule_comes_back_as_it_was_written(self, store: Database) -> None:
        written = Schedule("s", "* * * * *", "{{.id}}", MAX_INTEGER, Value(data="x"), {"é": "\x00"}, 1, 2, 3)
        write(store, written)

        assert self.load(store, "s") == {"s": written}
        assert self.load(store, "other") == {}

    def test_a_schedule_written_again_is_replaced_in_the_times_of_its_runs_until_it_is_deleted(
        self, store: Database
    ) -> None:
        write(store, schedule("s"))
        moved = replace(schedule("s", next_run_at=LATER + 5), last_run_at=LATER)
        write(store, moved)

        assert self.load(store, "s") == {"s": moved}
        with transaction(store):
            store.write(Changes(schedules={"s": None}))
        assert self.load(store, "s") == {}

    def test_schedules_are_due_oldest_first_up_to_the_limit(self, store: Database) -> None:
        for id, at in (("late", 3), ("b", 2), ("a", 2), ("future", LATER)):
            write(store, schedule(id, next_run_at=at))

        with transaction(store):
            assert [each.id for each in store.due(NOW, 10).schedules] == ["a", "b", "late"]
            assert [each.id for each in store.due(NOW, 2).schedules] == ["a", "b"]
            assert store.next_due() == 2

    def test_schedules_are_found_by_tags_after_the_cursor(self, store: Database) -> None:
        write(store, *(schedule(id, tags={"a": "1"}) for id in "cab"), schedule("d", tags={"a": "2"}))

        assert found(store, ScheduleSearch()) == ["a", "b", "c", "d"]
        assert found(store, ScheduleSearch(tags={"a": "1"})) == ["a", "b", "c"]
        assert found(store, ScheduleSearch(tags={"a": "1"}, cursor="a", limit=1)) == ["b", "c"]


class TestRetention:
    """Section 9, item 16: only whole trees, and only if nothing in them is pending or owed."""

    def drop(self, store: Database, before: int = NOW + 1, limit: int = 100) -> int:
        """Drop old trees and return how many."""
        with transaction(store):
            there_were = len(list(store.recent_roots(None, None, NOW)))
            store.drop_settled_trees(before, limit)
            return there_were - len(list(store.recent_roots(None, None, NOW)))

    ORIGIN: ClassVar = {"resonate:origin": "root"}

    def tree(self, store: Database, root_origin: bool = True) -> None:
        write(
            store,
            promise("root", RESOLVED, tags=self.ORIGIN if root_origin else {}),
            task("root", TaskState.FULFILLED),
            promise("leaf", RESOLVED, tags=self.ORIGIN),
            PutCallback("leaf", "root"),
            PutListener("root", ADDRESS),
        )

    @pytest.mark.parametrize("root_origin", [True, False])
    def test_a_settled_tree_is_removed_with_all_its_rows(self, store: Database, root_origin: bool) -> None:
        """Not before its time."""
        self.tree(store, root_origin=root_origin)
        assert self.drop(store, before=NOW) == 0
        assert found(store, PromiseSearch()) == ["leaf", "root"]

        assert self.drop(store) == 1

        with transaction(store):
            everything = store.snapshot()
        assert everything == Snapshot(promises=[], tasks=[], callbacks=[], listeners=[], unblocks=[], spreading=[])

    @pytest.mark.parametrize(
        "row",
        [
            pytest.param(promise("step", tags=ORIGIN), id="a pending leaf"),
            pytest.param(promise("asked", timeout_at=NOW - 1, tags=ORIGIN | EXTERNAL), id="an expired external leaf"),
            pytest.param(PutSpreading(Spreading("root"), NOW), id="a root whose settlement is still spreading"),
            pytest.param(PutSpreading(Spreading("leaf"), NOW), id="a leaf whose settlement is still spreading"),
        ],
    )
    def test_a_tree_in_which_something_is_not_finished_stays(self, store: Database, row: Row) -> None:
        self.tree(store)
        write(store, row)

        assert self.drop(store) == 0

    @pytest.mark.parametrize(("deadline", "dropped"), [(NOW, 2), (NOW + 1, 0)])
    def test_an_internal_leaf_or_root_counts_as_settled_at_its_deadline(
        self, store: Database, deadline: int, dropped: int
    ) -> None:
        self.tree(store)
        write(store, promise("step", timeout_at=deadline, tags=self.ORIGIN), promise("internal", timeout_at=deadline))

        assert self.drop(store) == dropped

    @pytest.mark.parametrize("id", ["root", "leaf"])
    def test_a_tree_with_a_listener_still_to_be_notified_stays(self, store: Database, id: str) -> None:
        self.tree(store)
        with transaction(store):
            store.put_unblock(Unblock(promise=promise(id, RESOLVED), address=ADDRESS), NOW)

        assert self.drop(store) == 0

    @pytest.mark.parametrize("parent", ["caller", "called", None])
    def test_a_call_with_a_tree_of_its_own_stays_until_its_caller_has_ended(
        self, store: Database, parent: str | None
    ) -> None:
        """Even if its tags do not name the caller, and it settles within the transaction that creates it."""
        tags = EXTERNAL | {"resonate:origin": "called"} | ({"resonate:parent": parent} if parent else {})
        write(store, promise("caller", tags=EXTERNAL))
        with transaction(store):
            callers = {} if parent == "caller" else {"called": "caller"}
            store.write(Changes(promises={"called": promise("called", tags=tags)}, callers=callers))
            store.write(changes(promise("called", RESOLVED, tags=tags)))

        assert self.drop(store) == 0
        write(store, promise("caller", RESOLVED, tags=EXTERNAL))
        assert self.drop(store) == 2

    def test_calls_whose_origin_is_within_a_removed_tree_follow_once_they_are_settled(self, store: Database) -> None:
        """To some SDKs each call that a worker runs is a root."""
        self.tree(store)
        below = EXTERNAL | {"resonate:origin": "leaf"}
        write(store, promise("leaf:1", RESOLVED, tags=below), promise("leaf:2", tags=below))

        for left in (["leaf:1", "leaf:2"], ["leaf:2"]):
            self.drop(store)
            assert found(store, PromiseSearch()) == left

    def test_at_most_the_limit_is_removed_oldest_first_and_no_other_tree_is_touched(self, store: Database) -> None:
        write(store, promise("other", tags={"resonate:origin": "other"}), task("other"))
        for id, at in (("c", 3), ("a", 1), ("b", 2)):
            write(store, promise(id, RESOLVED, settled_at=at))

        assert self.drop(store, limit=2) == 2
        assert found(store, PromiseSearch()) == ["c", "other"]

    def test_a_removed_tree_may_be_created_again(self, store: Database) -> None:
        tags = EXTERNAL | {"resonate:branch": "b"}
        write(store, promise("p", RESOLVED, tags=tags))
        self.drop(store)

        write(store, promise("p", tags=tags, timeout_at=NOW))

        assert load(store, "p", preload_for="p").promises == {"p": promise("p", tags=tags, timeout_at=NOW)}
        with transaction(store):
            assert store.due(NOW, 10).promises == ("p",)


class TestEverything:
    def test_tasks_are_counted_by_state(self, store: Database) -> None:
        write(store, *(promise(id) for id in "abc"), task("a"), task("b"), task("c", TaskState.FULFILLED))
        write(store, task("a", TaskState.HALTED))

        with transaction(store):
            counted = {state: count for state, count in store.count_tasks().items() if count}
        assert counted == {TaskState.HALTED: 1, TaskState.PENDING: 1, TaskState.FULFILLED: 1}

    def test_a_snapshot_holds_all_rows_in_order(self, store: Database) -> None:
        write(
            store,
            promise("b"),
            promise("a", RESOLVED),
            task("b"),
            task("a"),
            PutCallback("b", "a"),
            PutCallback("a", "b"),
            PutListener("b", ADDRESS),
            PutSpreading(Spreading("a", after="b"), NOW),
        )
        unblock = Unblock(promise=promise("a", RESOLVED), address=ADDRESS)
        with transaction(store):
            store.put_unblock(unblock, NOW)

            assert store.snapshot() == Snapshot(
                promises=[promise("a", RESOLVED), promise("b")],
                tasks=[task("a"), task("b")],
                callbacks=[PutCallback("a", "b"), PutCallback("b", "a")],
                listeners=[PutListener("b", ADDRESS)],
                unblocks=[unblock],
                spreading=[Spreading("a", after="b")],
            )

    def test_after_a_reset_it_is_as_if_new(self, store: Database) -> None:
        new = seen(store)
        TestUndo().fill(store)

        with transaction(store):
            store.reset()
        assert seen(store) == new


class TestSizes:
    def test_sizes_are_those_of_what_an_answer_would_show(self, store: Database) -> None:
        small, large = promise("small", tags={"a": "b"}), promise("large", param=Value(data="x" * 1_000))
        write(store, small, large)

        with transaction(store):
            assert abs(store.weigh(["small", "missing", "large"]) - weight(small) - weight(large)) < 20
            assert store.weigh([]) == 0

    @pytest.mark.parametrize(
        "row",
        [
            promise("q", tags={"long": "x" * 5_000}),
            promise("q", param=Value(data="x" * 5_000)),
            promise("q", RESOLVED, value=Value(data="x" * 5_000)),
            task("p", target="poll://any@" + "x" * 5_000),
            PutListener("p", "poll://any@" + "x" * 5_000),
            PutCallback("p", "x" * 5_000),
        ],
        ids=["tags", "param", "value", "task", "listener", "callback"],
    )
    def test_the_size_of_a_snapshot_counts_everything(
        self, store: Database, row: Promise | Task | PutListener | PutCallback
    ) -> None:
        write(store, promise("p"))
        with transaction(store):
            before = store.snapshot_bytes()
        write(store, row)

        with transaction(store):
            assert 5_000 <= store.snapshot_bytes() - before < 20_000


class TestIdAhead:
    def test_id_ahead_counts_rows_after_the_cursor(self, store: Database) -> None:
        write(store, *map(promise, "1234"), *map(task, "1234"), *map(schedule, "1234"))

        with transaction(store):
            for kind in (PromiseSearch, TaskSearch, ScheduleSearch):
                assert [store.id_ahead(kind(), rows) for rows in (1, 4, 5)] == ["1", "4", None]
                assert [store.id_ahead(kind(cursor="2"), rows) for rows in (2, 3)] == ["4", None]

    def test_id_ahead_in_a_tree_counts_only_its_own_rows(self, store: Database) -> None:
        origin = {"resonate:origin": "2"}
        write(store, promise("1"), promise("2", tags=origin), promise("3"), *[promise(id, tags=origin) for id in "45"])
        write(store, *map(task, "45"))

        with transaction(store):
            assert store.id_ahead(PromiseSearch(tags=origin), 2) == "4"
            assert store.id_ahead(PromiseSearch(tags=origin), 4) is None
            assert store.id_ahead(PromiseSearch(tags=origin, cursor="2"), 2) == "5"
            assert store.id_ahead(PromiseSearch(tags={"a": "b"}), 2) == "2"


def test_the_mark_of_the_clock_is_the_last_one(sqlite_store: Database) -> None:
    with transaction(sqlite_store):
        assert sqlite_store.clock_mark() is None
    for time in (5, 6):
        with transaction(sqlite_store):
            sqlite_store.put_clock_mark(ClockMark(time, 2 * time, f"boot {time}"))

    with transaction(sqlite_store):
        assert sqlite_store.clock_mark() == ClockMark(6, 12, "boot 6")


def test_a_trial_write_is_a_real_write_that_changes_nothing_visible(sqlite_store: Database) -> None:
    before = seen(sqlite_store)
    sqlite_store.try_to_write()
    assert sqlite_store.flush()
    sqlite_store.commit()

    assert seen(sqlite_store) == before


def test_there_is_something_to_commit_only_after_a_write(store: Database) -> None:
    store.load(Footprint(ids=("p",)))
    assert not store.flush()
    store.write(changes(promise("p")))
    assert store.flush()
    store.commit()
    assert not store.flush()
