"""A settlement that many wait for: some are notified with it, the others gradually (section 10)."""

from collections.abc import Callable
from itertools import chain

import pytest
from unit.driver import FAR, HOUR, RETRY, START, Driver
from unit.rows import transaction

from resonate_server.kernel.model import PutSpreading, Rules, Spreading

AT_ONCE = 3
WAITING = [f"w-{number}" for number in range(8)]
ADDRESSES = [f"poll://uni@callers/{number}" for number in range(8)]


@pytest.fixture
def server() -> Driver:
    return Driver(rules=Rules(retry_timeout_ms=RETRY, notify_batch_size=AT_ONCE))


@pytest.fixture
def awaited(server: Driver) -> Driver:
    server.create("p", target=None)
    for id in WAITING:
        server.suspended(id, "p")
    return server


@pytest.fixture
def listened(server: Driver) -> Driver:
    server.create("p", target=None)
    for address in ADDRESSES:
        server.register_listener("p", address)
    return server


def woken(server: Driver) -> list[str]:
    return [id for id, _ in server.take_executes()]


def told(server: Driver) -> list[str]:
    return [unblock.address for unblock in server.take_unblocks()]


def ticks(server: Driver, look: Callable[[Driver], list[str]]) -> list[list[str]]:
    """Sweep until nothing is left to do, and return what each sweep did."""
    done: list[list[str]] = []
    while True:
        server.tick()
        found = look(server)
        if not found:
            return done
        done.append(found)


class TestAwaiters:
    def test_some_are_woken_with_the_settlement_the_others_by_and_by(self, awaited: Driver) -> None:
        awaited.settle("p")
        assert woken(awaited) == WAITING[:3]
        assert ticks(awaited, woken) == [WAITING[3:6], WAITING[6:]]

    def test_the_progress_is_the_last_awaiter_that_was_notified(self, awaited: Driver) -> None:
        awaited.settle("p")
        awaited.now += 1
        awaited.tick()

        kept = [
            link for each in awaited.decided for link in each.decision.changes.links if isinstance(link, PutSpreading)
        ]
        assert kept == [
            PutSpreading(Spreading("p", after=WAITING[2]), turn_at=START),
            PutSpreading(Spreading("p", after=WAITING[5]), turn_at=START + 1),
        ]

    def test_an_awaiter_not_notified_yet_learns_of_the_settlement_when_it_suspends(self, awaited: Driver) -> None:
        awaited.acquired("late")
        awaited.settle("p")
        assert awaited.suspend("late", 1, "p").status == 300

    def test_an_awaiter_fulfilled_meanwhile_is_left_alone(self, awaited: Driver) -> None:
        awaited.settle("p")
        awaited.settle(WAITING[-1])
        awaited.forget_messages()
        assert ticks(awaited, woken) == [WAITING[3:6], WAITING[6:-1]]

    def test_one_past_its_own_deadline_is_not_woken_and_nothing_waits_for_it(self, server: Driver) -> None:
        """Section 9, item 13."""
        server.create("p", target=None)
        for id in WAITING:
            server.create(id, timeout_at=START + HOUR)
            server.acquire(id)
            server.suspend(id, 1, "p")
        server.forget_messages()
        server.settle("p")
        server.forget_messages()
        server.now += HOUR

        for _ in range(5):
            server.tick()

        assert woken(server) == []
        with transaction(server.store):
            assert server.store.snapshot().spreading == []


class TestListeners:
    def test_some_listeners_are_notified_with_the_settlement_the_others_gradually(self, listened: Driver) -> None:
        listened.settle("p")
        assert told(listened) == ADDRESSES[:3]
        assert ticks(listened, told) == [ADDRESSES[3:6], ADDRESSES[6:]]
        assert listened.listeners("p") == []

    def test_awaiters_come_before_listeners(self, awaited: Driver) -> None:
        awaited.register_listener("p", ADDRESSES[0])
        awaited.settle("p")
        assert told(awaited) == []
        awaited.tick()
        awaited.tick()
        assert told(awaited) == ADDRESSES[:1]


class TestManySettlements:
    def test_spreading_settlements_take_turns(self, server: Driver) -> None:
        for id in ("a", "b"):
            server.create(id, target=None)
            for address in ADDRESSES:
                server.register_listener(id, address)
            server.now += 1
            server.settle(id)
        server.forget_messages()
        turns = []
        for _ in range(2):
            server.now += 1
            server.tick()
            turns.append({unblock.promise.id for unblock in server.take_unblocks()})

        assert turns == [{"a"}, {"b"}]

    def test_a_settlement_must_have_spread_before_its_tree_is_removed(self, listened: Driver) -> None:
        listened.settle("p")
        addresses = told(listened)

        with transaction(listened.store):
            listened.store.drop_settled_trees(FAR, 10)
        assert listened.promise("p").id == "p"
        for address in [*addresses, *chain(*ticks(listened, told))]:
            listened.store.delivered(("p", address))
        listened.create("with the next commit")
        with transaction(listened.store):
            listened.store.drop_settled_trees(FAR, 10)
        assert listened.get("p").status == 404
