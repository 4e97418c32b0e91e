"""``task.*``: the rules of section 3.2 beyond the state table."""

from typing import Any

import pytest
from unit.driver import LEASE, OTHER_PID, PID, START, Driver, promise_create, promise_settle, value
from unit.stories import happen

from resonate_server.protocol.records import PromiseState, TaskState
from resonate_server.protocol.requests import MAX_INTEGER


class TestCreate:
    def test_a_fulfilled_task_is_answered_as_it_is_without_preload(self, server: Driver) -> None:
        server.create("t", branch="t")
        server.create("t:step", target=None, branch="t")
        server.settle("t", result=value("result"))

        answer = server.create_task(promise_create("t"))

        assert (answer.status, answer.data.task.state) == (200, TaskState.FULFILLED)
        assert answer.data.promise.value == value("result")
        assert answer.data.preload == []

    def test_of_a_promise_whose_task_waits_claims_it_and_answers_both(self, server: Driver) -> None:
        promise = server.create("t").data.promise
        answer = server.create_task(promise_create("t"))
        assert (answer.data.task.state, answer.data.promise) == (TaskState.ACQUIRED, promise)

    @pytest.mark.parametrize("left", [0, 10])
    def test_past_its_deadline_answers_a_promise_that_has_timed_out(self, server: Driver, left: int) -> None:
        create = promise_create("t", timeout_at=START + left)
        if left:
            server.create_task(create)
            server.now += left
        answer = server.create_task(create)
        assert (answer.status, answer.data.task.state) == (200, TaskState.FULFILLED)
        assert answer.data.promise.state is PromiseState.TIMEDOUT


class TestFence:
    @pytest.mark.parametrize(
        ("tags", "callers"), [({"parent": "t"}, {}), ({"parent": "t.d"}, {"t.d": "t"}), ({}, {"t.d": "t"})]
    )
    def test_records_who_makes_a_call_that_names_no_parent_and_only_when_it_is_new(
        self, server: Driver, tags: dict[str, Any], callers: dict[str, str]
    ) -> None:
        """So that retention knows who may ask for it again."""
        server.create("t")
        server.acquire("t")
        create = promise_create("t.d", origin="t.d", **tags)
        for expected in (callers, {}):
            server.fence("t", 1, create)
            assert server.decided[-1].decision.changes.callers == expected

    def test_carries_no_preload_because_the_claim_has_given_it(self, server: Driver) -> None:
        """Otherwise a function with many steps would be sent all former ones with each new one."""
        server.create("t", branch="t")
        server.acquire("t")
        server.fence("t", 1, promise_create("t:step", target=None, branch="t"))
        assert server.fence("t", 1, promise_settle("t:step", result=value("done"))).data.preload == ()


class TestHeartbeat:
    def test_of_several_tasks_extends_those_that_are_held_and_ignores_the_others(self, server: Driver) -> None:
        """Section 7.2, item 7: the tasks may belong to any trees."""
        server.acquired("tree-a", ttl=5_000)
        server.acquired("tree-b", ttl=7_000)
        server.acquired("foreign", pid=OTHER_PID)
        server.create("plain", target=None)
        server.now += 1

        answer = server.heartbeat(("tree-a", 1), ("gone", 3), ("foreign", 1), ("plain", 0), ("tree-b", 1))

        assert answer.status == 200
        assert server.task("tree-a").timer_at == START + 1 + 5_000
        assert server.task("tree-b").timer_at == START + 1 + 7_000
        assert server.task("foreign").timer_at == START + LEASE

    def test_takes_the_longest_ttl_there_is(self, server: Driver) -> None:
        server.pending("t")
        assert server.acquire("t", 0, ttl=MAX_INTEGER).status == 200
        assert server.heartbeat(("t", 1)).status == 200


class TestRepeatedClaim:
    """Section 9, item 10: a request that is resent because its answer was lost gets the same answer again."""

    UNIQUE, ANOTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"

    def test_a_repeated_acquire_gets_the_first_answer(self, server: Driver) -> None:
        server.pending("t")
        first, again = (server.acquire("t", 0, corr_id=self.UNIQUE) for _ in range(2))
        assert again == first
        assert (again.status, again.data.task.version) == (200, 1)

    def test_a_repeated_create_gets_the_first_answer(self, server: Driver) -> None:
        first, again = (server.create_task(promise_create("t"), corr_id=self.UNIQUE) for _ in range(2))
        assert again == first
        assert (again.status, again.data.task.version) == (200, 1)

    @pytest.mark.parametrize("corr_id", ["sr-1700000000000", "", "0", "x" * 31])
    def test_a_short_correlation_id_does_not_mark_a_repetition(self, server: Driver, corr_id: str) -> None:
        """One SDK numbers its requests by the clock: two of them may share an id."""
        server.pending("t")
        assert [server.acquire("t", 0, corr_id=corr_id).status for _ in range(2)] == [200, 409]

    @pytest.mark.parametrize("corr_id", ["0", "x" * 4_097])
    def test_a_correlation_id_that_cannot_mark_a_repetition_is_not_stored(self, server: Driver, corr_id: str) -> None:
        server.pending("t")
        server.acquire("t", 0, corr_id=corr_id)
        assert server.task("t").claim is None

    @pytest.mark.parametrize(
        ("version", "pid", "corr_id"),
        [
            pytest.param(0, PID, ANOTHER, id="correlation id"),
            pytest.param(0, OTHER_PID, UNIQUE, id="process"),
            pytest.param(1, PID, UNIQUE, id="version"),
        ],
    )
    def test_with_another_one_it_is_another_request(self, server: Driver, version: int, pid: str, corr_id: str) -> None:
        server.pending("t")
        assert server.acquire("t", 0, corr_id=self.UNIQUE).status == 200
        assert server.acquire("t", version, pid=pid, corr_id=corr_id).status == 409

    def test_the_preload_is_up_to_date(self, server: Driver) -> None:
        """The first step after a lost answer should not run twice."""
        server.create("t", branch="t")
        server.acquire("t", 0, corr_id=self.UNIQUE)
        server.create("t:1", target=None, branch="t")
        assert [each.id for each in server.acquire("t", 0, corr_id=self.UNIQUE).data.preload] == ["t:1"]

    @pytest.mark.parametrize("end", ["release t 1", "halt t", "settle t", "suspend t 1 dep", f"wait {LEASE}"])
    def test_after_the_claim_has_ended_it_is_refused(self, server: Driver, end: str) -> None:
        happen(server, "pending t; create dep -")
        server.acquire("t", 0, corr_id=self.UNIQUE)
        happen(server, end)
        assert server.acquire("t", 0, corr_id=self.UNIQUE).status == 409
