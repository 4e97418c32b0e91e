"""What the store guarantees for the live page: the roots, newest first; a tree; which worker has what to do."""

from collections.abc import Callable
from itertools import islice

import pytest
from msgspec import UNSET
from msgspec.structs import replace
from unit.rows import NOW, promise, task, transaction, write

from resonate_server.kernel.model import PutCallback
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.store import shared_sql
from resonate_server.store.found import Backlog, Branch, OpenTask, Place
from resonate_server.store.sqlite import Database, statements

type Plan = Callable[..., str]

PENDING, RESOLVED = PromiseState.PENDING, PromiseState.RESOLVED


@pytest.fixture
def store(each_store: Database) -> Database:
    """Typed as SQLite's, which PostgreSQL's looks like to tests."""
    return each_store


def root(id: str, created_at: int = NOW, state: PromiseState = PENDING, origin: str | None = None) -> Promise:
    made = promise(id, state, tags={} if origin is None else {"resonate:origin": origin})
    return replace(made, created_at=created_at)


def ids(store: Database, state: PromiseState | None = None, before: Place | None = None, limit: int = 100) -> list[str]:
    with transaction(store):
        found = islice(store.recent_roots(state, before, NOW), limit)
        return [root.id for root in found if state in (None, root.state)]


def tree(store: Database, root: str, after: str = "") -> list[Branch]:
    with transaction(store):
        return list(store.tree(root, after, NOW))


class TestRoots:
    def test_the_newest_come_first_whatever_their_state_and_among_equals_the_greater_id(self, store: Database) -> None:
        write(store, root("a", NOW), root("b", NOW + 2, RESOLVED), root("c", NOW + 1, PromiseState.REJECTED))
        write(store, root("d", NOW), root("e", NOW, RESOLVED))
        assert ids(store) == ["b", "c", "e", "d", "a"]

    def test_a_root_has_no_origin_or_is_its_own(self, store: Database) -> None:
        write(store, root("own", NOW, origin="own"), root("none", NOW + 1), root("child", NOW + 2, origin="own"))
        assert ids(store) == ["none", "own"]

    def test_roots_of_one_state_are_listed(self, store: Database) -> None:
        write(store, *[root(each.value, state=each) for each in PromiseState])
        assert {state: ids(store, state) for state in PromiseState} == {state: [state.value] for state in PromiseState}

    def test_deleted_roots_are_not_listed(self, store: Database) -> None:
        write(store, root("a", state=RESOLVED), root("a:1", state=RESOLVED, origin="a"))
        with transaction(store):
            store.drop_settled_trees(NOW + 1, 10)
        assert ids(store) == []
        assert tree(store, "a") == []

    def test_an_internal_one_is_shown_and_found_as_it_reads_at_the_time(self, store: Database) -> None:
        write(store, promise("over", timeout_at=NOW), promise("open", timeout_at=NOW + 1))
        with transaction(store):
            found = {root.id: (root.state, root.settled_at) for root in store.recent_roots(None, None, NOW)}
        assert found == {"over": (PromiseState.TIMEDOUT, NOW), "open": (PENDING, UNSET)}
        assert (ids(store, PENDING), ids(store, PromiseState.TIMEDOUT)) == (["open"], ["over"])


class TestTree:
    def test_its_promises_are_shown_as_they_read_at_the_time(self, store: Database) -> None:
        write(store, root("a"), promise("a:1", timeout_at=NOW, tags={"resonate:origin": "a"}))
        assert [branch.promise.state for branch in tree(store, "a")] == [PENDING, PromiseState.TIMEDOUT]

    @pytest.mark.parametrize("origin", [None, "a"])
    def test_a_tree_is_its_root_and_all_promises_that_name_it(self, store: Database, origin: str | None) -> None:
        write(store, root("a", origin=origin), root("a:2", origin="a"), root("a:1", origin="a"), root("b"))
        assert [branch.promise.id for branch in tree(store, "a")] == ["a", "a:1", "a:2"]
        assert [branch.promise.id for branch in tree(store, "a", after="a:1")] == ["a:2"]

    def test_awaited_promises_of_a_tree_are_included(self, store: Database) -> None:
        write(
            store,
            root("a"),
            task("a", TaskState.SUSPENDED),
            PutCallback("a:2", "a"),
            PutCallback("a:1", "a"),
            PutCallback("a:4", "b"),
        )

        assert [branch.awaits for branch in tree(store, "a")] == [["a:1", "a:2"]]


class TestOccupation:
    def test_tasks_are_counted_by_group_and_by_holder(self, store: Database) -> None:
        write(
            store,
            task("a", queued=True),
            task("b", queued=True),
            task("c", queued=True, target="poll://uni@others/pid"),
            task("d", queued=True, target="http://host"),
            task("e", TaskState.ACQUIRED, pid="pid-1"),
            task("f", TaskState.ACQUIRED, pid="pid-1"),
            task("g", TaskState.ACQUIRED, pid="pid-2"),
        )

        with transaction(store):
            occupation = store.occupation()

        assert occupation.queued == {"workers": 2, "others": 1}
        assert occupation.held == {"pid-1": 2, "pid-2": 1}


class TestWaiting:
    @pytest.fixture(autouse=True)
    def _filled(self, store: Database) -> None:
        ids = ("new", "again", "aside", "fresh", "halted", "held", "held too", "elsewhere", "pushed")
        write(store, *map(promise, ids))
        write(
            store,
            task("new", queued=True, timer_at=1),
            task("again", queued=True, timer_at=2, unclaimed=2),
            task("aside", unclaimed=1, timer_at=3),
            task("fresh"),
            task("halted", TaskState.HALTED, unclaimed=1),
            task("held", TaskState.ACQUIRED, pid="pid-1"),
            task("held too", TaskState.ACQUIRED, pid="pid-2", target="http://host"),
            task("elsewhere", queued=True, target="poll://any@others", timer_at=1),
            task("pushed", queued=True, target="http://host", timer_at=1),
        )
        with transaction(store):
            for address in ("poll://uni@workers/1", "poll://any@workers", "poll://any@others"):
                store.put_unblock(Unblock(promise("new"), address), NOW)

    def test_groups_with_waiting_tasks_are_found(self, store: Database) -> None:
        with transaction(store):
            assert store.groups_with_waiting_tasks(10) == ["others", "workers"]
            assert store.groups_with_waiting_tasks(1) == ["others"]

    def test_how_much(self, store: Database) -> None:
        expected = {"workers": Backlog(3, 2), "others": Backlog(1, 1), "nobody": Backlog(0, 0)}
        with transaction(store):
            assert {group: store.backlog(group) for group in expected} == expected

    def test_unclaimed_tasks_are_found(self, store: Database) -> None:
        with transaction(store):
            assert [(each.id, each.version, each.group) for each in store.waiting_tasks("workers", 10)] == [
                ("new", 0, "workers"),
                ("again", 0, "workers"),
                ("aside", 0, "workers"),
            ]
            assert [each.id for each in store.waiting_tasks("workers", 1)] == ["new", "aside"]

    def test_claims_from_after_a_place_on(self, store: Database) -> None:
        first, second = (
            (("pid-1", "held"), OpenTask("held", 0, "workers")),
            (("pid-2", "held too"), OpenTask("held too", 0, "")),
        )
        with transaction(store):
            assert store.claims(("", ""), 10) == [first, second]
            assert store.claims(("", ""), 1) == [first]
            assert store.claims(("pid-1", "a"), 10) == [first, second]
            assert store.claims(("pid-1", "held"), 10) == [second]


class TestPlans:
    """The amount of work must not depend on how much is stored."""

    @pytest.fixture
    def plan(self, sqlite_store: Database) -> Plan:
        def explain(statement: str, **parameters: object) -> str:
            rows = sqlite_store._db.execute(f"EXPLAIN QUERY PLAN {statements.own(statement)}", parameters)
            return "\n".join(row[3] for row in rows).replace("USING COVERING INDEX", "USING INDEX")  # newer SQLite's

        return explain

    def test_the_list_walks_its_index_and_sorts_nothing(self, plan: Plan) -> None:
        told = plan(statements.RECENT_ROOTS, state="pending", armed=1, created_at=0, id="")
        assert "SEARCH promises USING INDEX roots_by_creation (state=? AND armed=? AND (created_at,id)<(?,?))" in told
        assert "TEMP B-TREE" not in told

    def test_a_tree_is_looked_up_by_its_origin(self, plan: Plan) -> None:
        told = plan(shared_sql.TREE, root="", after="")
        assert "promises_by_origin (origin=? AND id>?)" in told
        assert "SCAN promises" not in told
        assert "TEMP B-TREE" not in told

    def test_groups_whose_tasks_wait_are_found_by_jumps_along_their_indexes(self, plan: Plan) -> None:
        for statement, index in (
            (statements.GROUPS_WITH_QUEUED, "tasks_queued"),
            (statements.GROUPS_WITH_SET_ASIDE, "tasks_set_aside"),
        ):
            told = plan(statement, limit=1)
            assert told.count(f"SEARCH tasks USING INDEX {index} (recipient>?)") == 2
            assert "SCAN tasks" not in told

    def test_waiting_tasks_of_a_group_are_counted_along_indexes(self, plan: Plan) -> None:
        told = plan(shared_sql.COUNT_WAITING, group="", limit=1)
        assert "SEARCH tasks USING INDEX tasks_queued (recipient=?)" in told
        assert "SEARCH tasks USING INDEX tasks_set_aside (recipient=?)" in told
        assert "SEARCH unblocks USING INDEX unblocks_by_recipient (recipient=?)" in told

    def test_open_tasks_are_found_in_the_order_of_an_index(self, plan: Plan) -> None:
        for statement, index in (
            (shared_sql.WAITING_QUEUED, "tasks_queued (recipient=?)"),
            (shared_sql.WAITING_SET_ASIDE, "tasks_set_aside (recipient=?)"),
            (shared_sql.CLAIMS, "tasks_by_holder"),
        ):
            told = plan(statement, group="", pid="", id="", limit=1)
            assert index in told
            assert told.count("TEMP B-TREE") == statement.count("ORDER BY t.")  # of the few that are joined
            assert "SCAN tasks" not in told
