"""What a store guarantees: :class:`resonate_server.store.Store`, sentence by sentence."""

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import pytest
from msgspec.structs import replace
from unit.rows import LATER, NOW, changes, promise, schedule, snapshot, task, transaction, write

from resonate_server.kernel.model import (
    Changes,
    DropCallback,
    DropCallbacks,
    DropListener,
    DropSpreading,
    Due,
    Footprint,
    LinkFootprint,
    PutCallback,
    PutListener,
    PutSpreading,
    Rows,
    Spreading,
    Task,
)
from resonate_server.kernel.weight import weight
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import Promise, PromiseState, Schedule, TaskState, Value
from resonate_server.protocol.requests import MAX_INTEGER, PromiseSearch, ScheduleSearch, Search, TaskSearch
from resonate_server.store import Snapshot
from resonate_server.store.sqlite import Database
from resonate_server.store.sqlite.clock import ClockMark

EXTERNAL = {"resonate:external": "true"}
"""Tags of a promise whose deadline counts as due work."""

ODD = [
    "'",
    '"',
    "\\",
    "%",
    "_",
    "*",
    "\n",
    "\u2028",
    "é",
    "e\u0301",
    "\uff5e",
    "😀",
    "a b",
    "--",
    "$.x",
    "[0]",
    "a\x00b",
]
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


class TestRows:
    @pytest.mark.parametrize("state", list(PromiseState))
    def test_a_promise_comes_back_as_it_was_written(self, store: Database, state: PromiseState) -> None:
        written = promise(
            "p",
            state,
            param=Value(headers={"h": "1"}, data="x"),
            value=Value(data="y"),
            timeout_at=MAX_INTEGER,
            tags={"resonate:target": "poll://any@workers", "resonate:branch": "b", "own": ""},
        )

        write(store, written)

        assert load(store, "p").promises == {"p": written}

    @pytest.mark.parametrize("value", [Value(), Value(data=""), Value(headers={}), Value(headers={"": ""}, data="é\0")])
    def test_an_absent_member_of_a_value_is_not_an_empty_one(self, store: Database, value: Value) -> None:
        write(store, promise("p", param=value, value=value))

        loaded = load(store, "p").promises["p"]
        assert (loaded.param, loaded.value) == (value, value)

    def test_a_promise_written_again_is_replaced_in_state_value_and_time_of_settlement(self, store: Database) -> None:
        write(store, promise("p"))
        settled = promise("p", PromiseState.RESOLVED, value=Value(data="y"), settled_at=NOW + 5)

        write(store, settled)

        assert load(store, "p").promises["p"] == settled

    @pytest.mark.parametrize("odd", [text for text in ODD if "\x00" not in text])
    def test_odd_ids_are_kept_apart(self, store: Database, odd: str) -> None:
        write(store, promise(odd, tags={"n": "1"}), promise(odd + odd, tags={"n": "2"}))

        assert load(store, odd).promises[odd].tags == {"n": "1"}

    @pytest.mark.parametrize("odd", ODD)
    def test_odd_tags_come_back(self, store: Database, odd: str) -> None:
        write(store, promise("p", tags={odd: odd}))

        assert load(store, "p").promises["p"].tags == {odd: odd}

    def test_ids_differ_by_case_and_by_composition(self, store: Database) -> None:
        write(store, promise("É"), promise("é"), promise("e\u0301"))

        assert set(load(store, "É", "é", "e\u0301", "E").promises) == {"É", "é", "e\u0301"}

    @pytest.mark.parametrize("state", list(TaskState))
    def test_a_task_comes_back_as_it_was_written(self, store: Database, state: TaskState) -> None:
        written = Task(
            id="t",
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

        write(store, promise("t"), written)

        assert load(store, "t").tasks == {"t": written}

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

    def test_an_awaiter_is_loaded_with_the_awaited(self, store: Database) -> None:
        write(store, PutCallback("p", "a"))

        assert links(store, "p").awaiters == {"p": ["a"]}

    def test_an_awaiter_is_loaded_with_its_promise_and_task(self, store: Database) -> None:
        write(store, task("a"), PutCallback("p", "a"))

        rows = links(store, "p")

        assert (set(rows.promises), set(rows.tasks)) == ({"p", "a"}, {"a"})

    def test_awaiters_of_awaiters_are_not_loaded(self, store: Database) -> None:
        write(store, PutCallback("p", "a"), PutCallback("a", "b"))

        rows = links(store, "p")

        assert "b" not in rows.promises

    def test_a_callback_put_twice_is_one(self, store: Database) -> None:
        write(store, PutCallback("p", "a"), PutCallback("p", "a"))

        assert links(store, "p").awaiters == {"p": ["a"]}

    def test_drop_callback_drops_one(self, store: Database) -> None:
        write(store, *(PutCallback(p, a) for p in ("p", "q") for a in ("a", "b")))

        write(store, DropCallback("p", "a"))

        assert links(store, "p", "q").awaiters == {"p": ["b"], "q": ["a", "b"]}

    def test_drop_callbacks_drops_those_of_one_awaiter(self, store: Database) -> None:
        write(store, *(PutCallback(p, a) for p in ("p", "q") for a in ("a", "b")))

        write(store, DropCallbacks("a"))

        assert links(store, "p", "q").awaiters == {"p": ["b"], "q": ["b"]}

    @pytest.mark.parametrize("drop", [DropCallback("p", "a"), DropCallbacks("a")], ids=["one", "all"])
    def test_links_apply_in_their_order(self, store: Database, drop: DropCallback | DropCallbacks) -> None:
        write(store, PutCallback("p", "a"), drop)
        assert links(store, "p").awaiters == {"p": []}

        write(store, drop, PutCallback("p", "a"))
        assert links(store, "p").awaiters == {"p": ["a"]}

    def test_a_listener_put_twice_is_one(self, store: Database) -> None:
        write(store, PutListener("p", ADDRESS), PutListener("p", ADDRESS))

        assert links(store, "p").listeners == {"p": [ADDRESS]}

    def test_drop_listener_drops_one(self, store: Database) -> None:
        write(store, PutListener("p", ADDRESS), PutListener("p", ADDRESS + "x"), PutListener("q", ADDRESS))

        write(store, DropListener("p", ADDRESS))

        assert links(store, "p", "q").listeners == {"p": [ADDRESS + "x"], "q": [ADDRESS]}

    def test_dropping_a_missing_link_does_nothing(self, store: Database) -> None:
        write(store, DropCallback("nobody", "a"), DropCallbacks("nobody"), DropListener("nobody", ADDRESS))

        assert links(store, "nobody").awaiters == {"nobody": []}

    def test_the_limit_applies_to_all_links_together(self, store: Database) -> None:
        write(store, *(PutCallback(p, a) for p in ("p", "q") for a in ("a", "b")), PutListener("p", ADDRESS))

        assert [links(store, "p", "q", limit=limit).awaiters for limit in range(5)] == [
            {},
            {"p": ["a"]},
            {"p": ["a", "b"]},
            {"p": ["a", "b"]},
            {"p": ["a", "b"], "q": ["a"]},
        ]

    def test_it_is_reported_which_links_are_complete(self, store: Database) -> None:
        write(store, *(PutCallback("p", a) for a in ("a", "b")), PutListener("p", ADDRESS))

        assert [links(store, "p", "q", limit=limit).complete for limit in (2, 3, 4)] == [set(), {"p"}, {"p", "q"}]

    def test_links_after_a_given_awaiter_are_loaded(self, store: Database) -> None:
        write(store, *(PutCallback("p", a) for a in ("a", "b")))

        rows = Rows()
        with transaction(store):
            store.load_links(rows, LinkFootprint(spreading=(Spreading("p", after="a"),), limit=1))
        assert (rows.awaiters, rows.complete) == ({"p": ["b"]}, {"p"})


class TestFootprint:
    def test_only_the_named_rows_are_loaded(self, store: Database) -> None:
        write(store, promise("p"), promise("q"), task("q"))

        rows = load(store, "p")

        assert (set(rows.promises), set(rows.tasks)) == ({"p"}, set())

    def test_missing_rows_are_absent(self, store: Database) -> None:
        rows = load(store, "missing")

        assert (rows.promises, rows.tasks, rows.preload) == ({}, {}, [])

    def test_thousands_of_ids_are_loaded_at_once(self, store: Database) -> None:
        ids = [f"p-{number}" for number in range(3_000)]
        write(store, *map(promise, ids))

        assert len(load(store, *ids).promises) == 3_000


class TestPreload:
    def candidates(self, store: Database, id: str, branch: str | None = None) -> set[str]:
        return {found.id for found in load(store, id, preload_for=id, branch=branch).preload} - {id}

    def test_the_promises_of_its_branch(self, store: Database) -> None:
        write(
            store,
            promise("t", tags={"resonate:branch": "b"}),
            promise("step", tags={"resonate:branch": "b"}),
            promise("other", tags={"resonate:branch": "c"}),
            promise("none"),
        )

        assert self.candidates(store, "t") == {"step"}

    def test_its_children(self, store: Database) -> None:
        write(store, promise("t"), promise("child", tags={"resonate:parent": "t"}), promise("none"))

        assert self.candidates(store, "t") == {"child"}

    def test_a_new_task_is_preloaded_by_its_future_branch(self, store: Database) -> None:
        write(store, promise("step", tags={"resonate:branch": "b"}))

        assert self.candidates(store, "new", branch="b") == {"step"}

    def test_the_stored_branch_wins_over_the_one_named(self, store: Database) -> None:
        write(store, promise("t"), promise("step", tags={"resonate:branch": "b"}))

        assert self.candidates(store, "t", branch="b") == set()

    def test_an_empty_branch_counts_as_none(self, store: Database) -> None:
        write(store, promise("t", tags={"resonate:branch": ""}), promise("u", tags={"resonate:branch": ""}))

        assert self.candidates(store, "t") == set()


def no_result(_: object) -> None:
    """Ignore the result of a write, which the test is not about."""


class Undo(Exception):
    """Raised to leave a transaction."""


class TestUndo:
    """A transaction that an exception ends leaves no trace."""

    def fill(self, store: Database) -> None:
        tags = {"resonate:branch": "b", "resonate:parent": "held"}
        write(
            store,
            promise("queued", tags=tags, timeout_at=NOW + 1),
            task("queued", queued=True, timer_at=NOW + 2),
            promise("held", tags={"resonate:branch": "b"}),
            task("held", TaskState.ACQUIRED, pid="pid-1", timer_at=NOW + 3),
            promise("settled", PromiseState.RESOLVED),
            PutCallback("queued", "held"),
            PutListener("queued", ADDRESS),
            promise("tree", PromiseState.RESOLVED),
            promise("leaf", PromiseState.RESOLVED, tags={"resonate:origin": "tree", "resonate:branch": "b"}),
            task("leaf", TaskState.FULFILLED),
            schedule("s", next_run_at=NOW + 4),
        )
        with transaction(store):
            store.put_unblock(Unblock(promise=promise("settled", PromiseState.RESOLVED), address=ADDRESS), NOW)

    WRITES: ClassVar[dict[str, Callable[[Database], None]]] = {
        "new promise": lambda store: store.write(
            changes(promise("new", timeout_at=NOW, tags={"resonate:branch": "b", "resonate:parent": "held"}))
        ),
        "settled promise": lambda store: store.write(changes(promise("queued", PromiseState.RESOLVED))),
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
        "dropped tree": lambda store: no_result(store.drop_settled_trees(NOW + 1, 10)),
        "reset": lambda store: store.reset(),
        "dropped old unblocks": lambda store: store.drop_unblocks_before(NOW + 1),
    }

    @pytest.mark.parametrize("is_read", [False, True], ids=["", "whatever was read in between"])
    @pytest.mark.parametrize("name", WRITES)
    def test_a_transaction_is_undone(self, store: Database, name: str, is_read: bool) -> None:
        """Reading due rows within a transaction must not lose rows that are due after its rollback."""
        self.fill(store)
        with transaction(store):
            before = snapshot(store)
        with suppress(Undo), transaction(store):
            self.WRITES[name](store)
            if is_read:
                snapshot(store)
            raise Undo

        with transaction(store):
            assert snapshot(store) == before

    @pytest.mark.parametrize("name", WRITES)
    def test_a_transaction_is_undone_after_it_was_sent_to_the_database(self, store: Database, name: str) -> None:
        self.fill(store)
        with transaction(store):
            before = snapshot(store)
        self.WRITES[name](store)
        store.flush()
        store.rollback()

        with transaction(store):
            assert snapshot(store) == before


class TestDue:
    def due(self, store: Database, now: int, limit: int = 100) -> Due:
        with transaction(store):
            return store.due(now, limit)

    def next_due(self, store: Database) -> int | None:
        with transaction(store):
            return store.next_due()

    @pytest.mark.parametrize("now", [NOW, NOW + 1])
    def test_a_pending_promise_from_its_deadline_on(self, store: Database, now: int) -> None:
        write(store, promise("p", timeout_at=NOW, tags=EXTERNAL))

        assert self.due(store, now) == Due(promises=("p",))

    def test_no_promise_is_due_before_its_deadline(self, store: Database) -> None:
        write(store, promise("p", timeout_at=NOW, tags=EXTERNAL), task("p", timer_at=NOW))

        assert self.due(store, NOW - 1) == Due()
        assert self.next_due(store) == NOW

    def test_a_settled_promise_is_not_due(self, store: Database) -> None:
        write(store, promise("p", timeout_at=NOW, tags=EXTERNAL))
        write(store, promise("p", PromiseState.RESOLVED, timeout_at=NOW))

        assert self.due(store, NOW) == Due()
        assert self.next_due(store) is None

    def test_a_task_at_its_timer(self, store: Database) -> None:
        write(store, promise("t"), task("t", timer_at=NOW))

        assert self.due(store, NOW).tasks == ("t",)

    def test_a_timer_that_was_moved_counts_at_its_new_time_only(self, store: Database) -> None:
        write(store, promise("t"), task("t", timer_at=NOW))
        write(store, task("t", timer_at=NOW + 10))

        assert self.due(store, NOW + 9).tasks == ()
        assert self.next_due(store) == NOW + 10

    def test_a_timer_that_was_moved_back_and_forth_counts_once(self, store: Database) -> None:
        write(store, promise("t"))
        for at in (NOW, NOW + 10, NOW, NOW + 10, NOW):
            write(store, task("t", timer_at=at))

        assert self.due(store, NOW + 10).tasks == ("t",)

    def test_oldest_first_and_by_id_among_equals(self, store: Database) -> None:
        for id, at in (("late", 3), ("b", 2), ("a", 2), ("early", 1)):
            write(store, promise(id, timeout_at=at, tags=EXTERNAL), task(id, timer_at=at))

        assert self.due(store, NOW) == Due(promises=("early", "a", "b", "late"), tasks=("early", "a", "b", "late"))

    def test_at_most_the_limit_of_each_kind_is_due(self, store: Database) -> None:
        for id in "abc":
            write(store, promise(id, timeout_at=NOW, tags=EXTERNAL), task(id, timer_at=NOW))

        assert self.due(store, NOW, limit=2) == Due(promises=("a", "b"), tasks=("a", "b"))

    def test_until_it_is_done_it_stays_due(self, store: Database) -> None:
        write(store, promise("p", timeout_at=NOW, tags=EXTERNAL))

        assert self.due(store, NOW) == self.due(store, NOW) == Due(promises=("p",))
        assert self.next_due(store) == NOW

    def test_spreading_settlements_are_always_due_oldest_first(self, store: Database) -> None:
        a, b, c = Spreading("a", after="x"), Spreading("b"), Spreading("c")
        write(store, *map(promise, "abc"), PutSpreading(a, NOW + 2), PutSpreading(b, NOW), PutSpreading(c, NOW + 1))

        assert self.due(store, NOW, 2).spreading == (b, c)
        assert (self.next_due(store) or 0) <= NOW

    def test_a_settlement_that_has_spread_is_not_due(self, store: Database) -> None:
        write(store, promise("a"), PutSpreading(Spreading("a"), NOW))
        write(store, DropSpreading("a"))

        assert not self.due(store, NOW)
        assert self.next_due(store) is None

    def test_next_due_is_the_earliest_of_all(self, store: Database) -> None:
        write(
            store,
            promise("p", timeout_at=NOW + 5, tags=EXTERNAL),
            promise("t", timeout_at=NOW + 9, tags=EXTERNAL),
            task("t", timer_at=NOW + 3),
        )

        assert self.next_due(store) == NOW + 3


class TestOwed:
    def queued(self, store: Database, group: str, limit: int = 100) -> list[str]:
        with transaction(store):
            return [found.id for found in store.queued_tasks(group, limit)]

    def test_queued_tasks_of_a_group_by_retry_time(self, store: Database) -> None:
        for id, at in (("third", 3), ("first", 1), ("second", 2)):
            write(store, promise(id), task(id, queued=True, timer_at=at))

        assert self.queued(store, "workers") == ["first", "second", "third"]

    def test_groups_are_case_sensitive(self, store: Database) -> None:
        write(store, promise("t"), task("t", target="poll://any@Workers", queued=True, timer_at=1))

        assert self.queued(store, "workers") == []
        assert self.queued(store, "Workers") == ["t"]

    @pytest.mark.parametrize("target", ["poll://any@g/id", "poll://uni@g/id", "poll://any@%67"])
    def test_a_group_is_found_by_any_spelling_of_its_address(self, store: Database, target: str) -> None:
        write(store, promise("t"), task("t", target=target, queued=True, timer_at=1))

        assert self.queued(store, "g") == ["t"]

    def test_a_task_no_longer_queued_is_gone(self, store: Database) -> None:
        write(store, promise("t"), task("t", queued=True, timer_at=1))
        write(store, task("t", TaskState.ACQUIRED, pid="pid-1", timer_at=1))

        assert self.queued(store, "workers") == []

    def test_a_push_address_belongs_to_no_group(self, store: Database) -> None:
        write(store, promise("t"), task("t", target="http://workers/", queued=True, timer_at=1))

        assert self.queued(store, "workers") == []

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
    SETTLED = promise("p", PromiseState.RESOLVED, value=Value(data="y"))

    def keep(self, store: Database, address: str = ADDRESS, at: int = NOW) -> None:
        write(store, self.SETTLED)
        with transaction(store):
            store.put_unblock(Unblock(promise=self.SETTLED, address=address), at)

    def kept(self, store: Database) -> list[Unblock]:
        with transaction(store):
            return [owed.unblock for owed in store.unblocks("callers", "caller-1", 0)]

    def places(self, store: Database, group: str, member: str, after: int = 0) -> list[tuple[int, str]]:
        with transaction(store):
            return [(owed.place, owed.unblock.address) for owed in store.unblocks(group, member, after)]

    def addresses(self, store: Database, group: str, member: str) -> list[str]:
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

    def test_there_is_one_unblock_per_promise_and_address(self, store: Database) -> None:
        self.keep(store)
        self.keep(store)
        self.keep(store, "poll://any@callers")

        assert sorted(unblock.address for unblock in self.kept(store)) == ["poll://any@callers", ADDRESS]

    def test_a_delivered_unblock_is_gone(self, store: Database) -> None:
        self.keep(store)
        self.keep(store, "poll://any@callers")
        store.delivered(("p", ADDRESS))

        assert [unblock.address for unblock in self.kept(store)] == ["poll://any@callers"]

    def test_unblocks_kept_since_before_a_time_are_dropped(self, store: Database) -> None:
        self.keep(store, at=NOW - 1)
        self.keep(store, "poll://any@callers", at=NOW)
        with transaction(store):
            store.drop_unblocks_before(NOW)

        assert [unblock.address for unblock in self.kept(store)] == ["poll://any@callers"]


class TestSearchPromises:
    def search(self, store: Database, search: PromiseSearch) -> list[str]:
        with transaction(store):
            return [found.id for found in store.search(search, NOW)]

    @pytest.mark.parametrize("state", [PromiseState.PENDING, PromiseState.TIMEDOUT])
    def test_an_internal_one_is_found_by_the_state_it_reads_as_at_the_time(
        self, store: Database, state: PromiseState
    ) -> None:
        write(store, promise("over", timeout_at=NOW), promise("open", timeout_at=NOW + 1))

        with transaction(store):
            found = [(each.id, each.state) for each in store.search(PromiseSearch(state=state), NOW)]  # type: ignore[union-attr]
        assert found == [("open" if state is PromiseState.PENDING else "over", state)]

    def test_order_is_by_code_point(self, store: Database) -> None:
        ids = ["\U0001f600", "\uff5e", "é", "e\u0301", "z", "Z", "10", "9", "a", "a:1", "a.1", "a-1", " "]
        write(store, *map(promise, ids))

        assert self.search(store, PromiseSearch()) == sorted(ids)

    @pytest.mark.parametrize(("cursor", "found"), [("", ["a", "é"]), ("b", ["é"]), ("é", []), ("a\x00", ["é"])])
    def test_a_cursor_need_not_be_an_id(self, store: Database, cursor: str, found: list[str]) -> None:
        write(store, promise("a"), promise("é"))

        assert self.search(store, PromiseSearch(cursor=cursor)) == found

    @pytest.mark.parametrize("state", list(PromiseState))
    def test_by_state(self, store: Database, state: PromiseState) -> None:
        write(store, *(promise(each.value, each) for each in PromiseState))

        assert self.search(store, PromiseSearch(state=state)) == [state.value]

    def test_all_tags_must_match(self, store: Database) -> None:
        write(
            store,
            promise("both", tags={"a": "1", "b": "2", "c": "3"}),
            promise("one", tags={"a": "1"}),
            promise("other", tags={"a": "1", "b": "3"}),
            promise("none"),
        )

        assert self.search(store, PromiseSearch(tags={"a": "1", "b": "2"})) == ["both"]

    @pytest.mark.parametrize("almost", ["1 ", "01", "1.0", "", "true"])
    def test_tags_match_exactly(self, store: Database, almost: str) -> None:
        write(store, promise("p", tags={"a": almost}))

        assert self.search(store, PromiseSearch(tags={"a": "1"})) == []

    @pytest.mark.parametrize("odd", ODD)
    def test_odd_characters_in_tags_match_nothing_else(self, store: Database, odd: str) -> None:
        write(store, promise("p", tags={f"k{odd}": f"v{odd}", "k": "v"}))

        for key, value in ((f"k{odd}", f"v{odd}x"), (f"k{odd}x", f"v{odd}"), ("k", f"v{odd}"), (f"k{odd}", "v")):
            assert self.search(store, PromiseSearch(tags={key: value})) == []

    def test_by_origin_and_another_tag(self, store: Database) -> None:
        tags = {"resonate:origin": "root"}
        write(store, promise("root", tags=tags), promise("x", tags=tags | {"a": "1"}), promise("y", tags={"a": "1"}))

        assert self.search(store, PromiseSearch(tags=tags)) == ["root", "x"]
        assert self.search(store, PromiseSearch(tags=tags | {"a": "1"})) == ["x"]

    def test_an_empty_origin_is_an_origin(self, store: Database) -> None:
        write(store, promise("p", tags={"resonate:origin": ""}), promise("q"))

        assert self.search(store, PromiseSearch(tags={"resonate:origin": ""})) == ["p"]

    def test_state_tags_cursor_and_limit_together(self, store: Database) -> None:
        for number in range(20):
            state = PromiseState.RESOLVED if number % 2 else PromiseState.PENDING
            write(store, promise(f"{number:02}", state, tags={"third": str(number % 3)}))

        search = PromiseSearch(state=PromiseState.PENDING, tags={"third": "0"}, cursor="00", limit=1)
        assert self.search(store, search) == ["06", "12"]


class TestSearchTasks:
    def search(self, store: Database, search: TaskSearch) -> list[str]:
        with transaction(store):
            return [found.id for found in store.search(search, NOW)]

    def test_tasks_are_ascending_by_id_after_the_cursor(self, store: Database) -> None:
        write(store, *map(promise, "bac"), *map(task, "bac"))

        assert self.search(store, TaskSearch()) == ["a", "b", "c"]
        assert self.search(store, TaskSearch(cursor="a")) == ["b", "c"]

    @pytest.mark.parametrize("state", list(TaskState))
    def test_by_state(self, store: Database, state: TaskState) -> None:
        for each in TaskState:
            write(store, promise(each.value), task(each.value, each))

        assert self.search(store, TaskSearch(state=state)) == [state.value]


class TestSchedules:
    def load(self, store: Database, id: str) -> dict[str, Schedule]:
        with transaction(store):
            return store.load(Footprint(schedule=id)).schedules

    def test_a_schedule_comes_back_as_it_was_written(self, store: Database) -> None:
        written = Schedule("s", "* * * * *", "{{.id}}", MAX_INTEGER, Value(data="x"), {"é": "\x00"}, 1, 2, 3)
        write(store, written)

        assert self.load(store, "s") == {"s": written}
        assert self.load(store, "other") == {}

    def test_a_schedule_written_again_is_replaced_in_the_times_of_its_runs(self, store: Database) -> None:
        write(store, schedule("s"))
        moved = replace(schedule("s", next_run_at=LATER + 5), last_run_at=LATER)
        write(store, moved)

        assert self.load(store, "s") == {"s": moved}

    def test_a_deleted_schedule_is_gone(self, store: Database) -> None:
        write(store, schedule("s"))
        with transaction(store):
            store.write(Changes(schedules={"s": None}))

        assert self.load(store, "s") == {}

    def test_schedules_are_due_oldest_first_up_to_the_limit(self, store: Database) -> None:
        for id, at in (("late", 3), ("b", 2), ("a", 2), ("future", LATER)):
            write(store, schedule(id, next_run_at=at))

        with transaction(store):
            assert [found.id for found in store.due(NOW, 10).schedules] == ["a", "b", "late"]
            assert [found.id for found in store.due(NOW, 2).schedules] == ["a", "b"]
            assert store.next_due() == 2

    def test_schedules_are_found_by_tags_after_the_cursor(self, store: Database) -> None:
        write(store, *(schedule(id, tags={"a": "1"}) for id in "cab"), schedule("d", tags={"a": "2"}))

        with transaction(store):
            assert [each.id for each in store.search(ScheduleSearch(), NOW)] == ["a", "b", "c", "d"]
            assert [each.id for each in store.search(ScheduleSearch(tags={"a": "1"}), NOW)] == ["a", "b", "c"]
            found = store.search(ScheduleSearch(tags={"a": "1"}, cursor="a", limit=1), NOW)
            assert [each.id for each in found] == ["b", "c"]


class TestRetention:
    """Section 9, item 16: only whole trees, and only if nothing in them is pending or owed."""

    def drop(self, store: Database, before: int = NOW + 1, limit: int = 100) -> int:
        """Drop old trees and return how many."""
        with transaction(store):
            there_were = len(list(store.recent_roots(None, None, NOW)))
            store.drop_settled_trees(before, limit)
            return there_were - len(list(store.recent_roots(None, None, NOW)))

    def left(self, store: Database) -> list[str]:
        with transaction(store):
            return [found.id for found in store.search(PromiseSearch(), NOW)]

    def tree(self, store: Database, leaf: PromiseState = PromiseState.RESOLVED, root_origin: bool = True) -> None:
        origin = {"resonate:origin": "root"}
        write(
            store,
            promise("root", PromiseState.RESOLVED, tags=origin if root_origin else {}),
            task("root", TaskState.FULFILLED),
            promise("leaf", leaf, tags=origin),
            PutCallback("leaf", "root"),
            PutListener("root", ADDRESS),
        )

    @pytest.mark.parametrize("root_origin", [True, False])
    def test_a_settled_tree_is_removed_with_all_its_rows(self, store: Database, root_origin: bool) -> None:
        self.tree(store, root_origin=root_origin)

        assert self.drop(store) == 1

        with transaction(store):
            everything = store.snapshot()
        assert everything == Snapshot(promises=[], tasks=[], callbacks=[], listeners=[], unblocks=[], spreading=[])

    def test_a_tree_that_settled_later_stays(self, store: Database) -> None:
        self.tree(store)

        assert self.drop(store, before=NOW) == 0
        assert self.left(store) == ["leaf", "root"]

    def test_a_tree_with_a_pending_leaf_stays(self, store: Database) -> None:
        self.tree(store, leaf=PromiseState.PENDING)

        assert self.drop(store) == 0

    def test_a_tree_with_an_expired_external_leaf_stays_until_that_is_settled(self, store: Database) -> None:
        self.tree(store)
        tags = {"resonate:origin": "root", "resonate:external": "true"}
        write(store, promise("asked", timeout_at=NOW - 1, tags=tags))

        assert self.drop(store) == 0

    @pytest.mark.parametrize(("deadline", "dropped"), [(NOW, 1), (NOW + 1, 0)])
    def test_an_internal_leaf_counts_as_settled_at_its_deadline(
        self, store: Database, deadline: int, dropped: int
    ) -> None:
        self.tree(store)
        write(store, promise("step", timeout_at=deadline, tags={"resonate:origin": "root"}))

        assert self.drop(store) == dropped

    @pytest.mark.parametrize(("deadline", "dropped"), [(NOW, 1), (NOW + 1, 0)])
    def test_an_internal_root_counts_as_settled_at_its_deadline(
        self, store: Database, deadline: int, dropped: int
    ) -> None:
        write(store, promise("root", timeout_at=deadline))

        assert self.drop(store) == dropped

    @pytest.mark.parametrize("id", ["root", "leaf"])
    def test_a_tree_with_a_listener_still_to_be_notified_stays(self, store: Database, id: str) -> None:
        self.tree(store)
        with transaction(store):
            store.put_unblock(Unblock(promise=promise(id, PromiseState.RESOLVED), address=ADDRESS), NOW)

        assert self.drop(store) == 0

    @pytest.mark.parametrize("id", ["root", "leaf"])
    def test_a_tree_with_a_settlement_that_is_still_spreading_stays(self, store: Database, id: str) -> None:
        self.tree(store)
        write(store, PutSpreading(Spreading(id), NOW))

        assert self.drop(store) == 0

    def test_another_tree_is_not_touched(self, store: Database) -> None:
        self.tree(store)
        write(store, promise("other", tags={"resonate:origin": "other"}), task("other"))

        self.drop(store)

        assert self.left(store) == ["other"]

    def test_at_most_the_limit_is_removed_oldest_first(self, store: Database) -> None:
        for id, at in (("c", 3), ("a", 1), ("b", 2)):
            write(store, promise(id, PromiseState.RESOLVED, settled_at=at))

        assert self.drop(store, limit=2) == 2
        assert self.left(store) == ["c"]

    def test_a_removed_tree_may_be_created_again(self, store: Database) -> None:
        tags = EXTERNAL | {"resonate:branch": "b"}
        write(store, promise("p", PromiseState.RESOLVED, tags=tags))
        self.drop(store)

        write(store, promise("p", tags=tags, timeout_at=NOW))

        with transaction(store):
            assert store.load(Footprint(ids=("p",), preload_for="p")).promises == {
                "p": promise("p", tags=tags, timeout_at=NOW)
            }
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
            promise("a", PromiseState.RESOLVED),
            task("b"),
            task("a"),
            PutCallback("b", "a"),
            PutCallback("a", "b"),
            PutListener("b", ADDRESS),
            PutSpreading(Spreading("a", after="b"), NOW),
        )
        unblock = Unblock(promise=promise("a", PromiseState.RESOLVED), address=ADDRESS)
        with transaction(store):
            store.put_unblock(unblock, NOW)

            assert store.snapshot() == Snapshot(
                promises=[promise("a", PromiseState.RESOLVED), promise("b")],
                tasks=[task("a"), task("b")],
                callbacks=[PutCallback("a", "b"), PutCallback("b", "a")],
                listeners=[PutListener("b", ADDRESS)],
                unblocks=[unblock],
                spreading=[Spreading("a", after="b")],
            )

    def test_after_a_reset_it_is_as_if_new(self, store: Database) -> None:
        with transaction(store):
            new = snapshot(store)
        TestUndo().fill(store)

        with transaction(store):
            store.reset()
            assert snapshot(store) == new


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
            promise("q", PromiseState.RESOLVED, value=Value(data="x" * 5_000)),
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
    @pytest.mark.parametrize("kind", [PromiseSearch, TaskSearch, ScheduleSearch])
    def test_id_ahead_counts_rows_after_the_cursor(self, store: Database, kind: type[Search]) -> None:
        write(store, *map(promise, "1234"), *map(task, "1234"), *map(schedule, "1234"))

        with transaction(store):
            assert store.id_ahead(kind(), 1) == "1"
            assert store.id_ahead(kind(), 4) == "4"
            assert store.id_ahead(kind(), 5) is None
            assert store.id_ahead(kind(cursor="2"), 2) == "4"
            assert store.id_ahead(kind(cursor="2"), 3) is None

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
    store = sqlite_store
    with transaction(store):
        assert store.clock_mark() is None
    for time in (5, 6):
        with transaction(store):
            store.put_clock_mark(ClockMark(time, 2 * time, f"boot {time}"))

    with transaction(store):
        assert store.clock_mark() == ClockMark(6, 12, "boot 6")


def test_a_trial_write_is_a_real_write_that_changes_nothing_visible(sqlite_store: Database) -> None:
    store = sqlite_store
    with transaction(store):
        before = snapshot(store)
    store.try_to_write()
    assert store.flush()
    store.commit()

    with transaction(store):
        assert snapshot(store) == before


def test_there_is_something_to_commit_only_after_a_write(store: Database) -> None:
    store.load(Footprint(ids=("p",)))
    assert not store.flush()
    store.write(changes(promise("p")))
    assert store.flush()
    store.commit()
    assert not store.flush()


def test_acquired_tasks_are_those_with_a_holder(store: Database) -> None:
    write(
        store,
        promise("held"),
        task("held", TaskState.ACQUIRED, pid="pid-1", timer_at=NOW),
        promise("queued"),
        task("queued", queued=True, timer_at=NOW),
    )
    with transaction(store):
        assert store.acquired_tasks() == ["held"]
