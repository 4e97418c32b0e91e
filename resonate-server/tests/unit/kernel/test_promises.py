"""``promise.*``: the rules of section 3.1."""

import pytest
from msgspec import UNSET
from unit.driver import FAR, START, TARGET, Driver, value

from resonate_server.protocol.records import EMPTY, PromiseState
from resonate_server.protocol.requests import PromiseCreate

ADDRESS = "poll://uni@callers/caller-1"


class TestCreate:
    def test_a_new_promise_is_pending_and_created_now(self, server: Driver) -> None:
        answer = server.create("p", target=None, param=value("x"), branch="p")
        promise = answer.data.promise
        assert answer.status == 200
        assert (promise.state, promise.created_at, promise.timeout_at) == (PromiseState.PENDING, START, FAR)
        assert (promise.param, promise.value, promise.settled_at) == (value("x"), EMPTY, UNSET)
        assert promise.tags == {"resonate:branch": "p", "resonate:external": "true"}

    @pytest.mark.parametrize("late", [0, 1, 1_000, START])
    @pytest.mark.parametrize(("timer", "state"), [("false", PromiseState.TIMEDOUT), ("true", PromiseState.RESOLVED)])
    def test_past_its_deadline_it_is_born_timed_out_at_the_deadline_and_a_timer_resolved(
        self, server: Driver, late: int, timer: str, state: PromiseState
    ) -> None:
        deadline = START - late
        promise = server.create("p", target=None, timeout_at=deadline, timer=timer).data.promise
        assert (promise.state, promise.value) == (state, EMPTY)
        assert (promise.created_at, promise.settled_at) == (deadline, deadline)


@pytest.mark.parametrize("state", [PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED])
def test_settles_now_with_state_and_value(server: Driver, state: PromiseState) -> None:
    server.create("p", target=None)
    server.now += 3

    answer = server.settle("p", state, value("result"))

    promise = answer.data.promise
    assert answer.status == 200
    assert (promise.state, promise.value, promise.settled_at) == (state, value("result"), START + 3)
    assert server.promise("p") == promise


class TestRegisterListener:
    def test_on_a_settled_promise_stores_nothing_and_answers_the_result(self, server: Driver) -> None:
        server.create("p", target=None)
        server.settle("p", result=value("result"))
        answer = server.register_listener("p", ADDRESS)
        assert answer.data.promise.value == value("result")
        assert server.listeners("p") == []
        assert not server.sent

    @pytest.mark.parametrize(
        ("tag", "text"), [("target", TARGET), ("timer", "true"), ("external", "true"), ("scope", "global")]
    )
    def test_on_whatever_makes_a_promise_external_is_accepted(self, server: Driver, tag: str, text: str) -> None:
        server.call(PromiseCreate(id="p", timeout_at=FAR, tags={f"resonate:{tag}": text}))
        answer = server.register_listener("p", ADDRESS)
        assert (answer.status, answer.data.promise.state) == (200, PromiseState.PENDING)
        assert server.listeners("p") == [ADDRESS]
