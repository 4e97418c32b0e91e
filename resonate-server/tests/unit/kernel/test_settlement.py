"""How a settlement spreads: section 3.5, and section 9, items 8 and 13."""

import pytest
from unit.driver import LEASE, START, TARGET, Driver, promise_settle, value

from resonate_server.kernel.model import PutCallback, Task
from resonate_server.protocol.records import PromiseState, TaskState

ADDRESS = "poll://uni@callers/caller-1"


def settle_by_settle(server: Driver) -> None:
    server.settle("p", result=value("result"))


def settle_by_fulfill(server: Driver) -> None:
    server.acquire("p", 0)
    server.fulfill("p", 1, result=value("result"))


def settle_by_fence(server: Driver) -> None:
    server.acquired("other")
    server.fence("other", 1, promise_settle("p", result=value("result")))


def settle_by_expiry(server: Driver) -> None:
    server.wait(LEASE)


def settle_by_touch(server: Driver) -> None:
    server.now += LEASE
    server.get("p")


WAYS = [
    pytest.param(way, id=way.__name__)
    for way in (settle_by_settle, settle_by_fulfill, settle_by_fence, settle_by_expiry, settle_by_touch)
]


@pytest.mark.parametrize("way", WAYS)
class TestEveryWayToSettle:
    def test_fulfils_its_own_task(self, server: Driver, way: type) -> None:
        server.create("p", timeout_at=START + LEASE)
        way(server)
        task = server.task("p")
        assert (task.state, task.timer_at) == (TaskState.FULFILLED, None)

    def test_deletes_the_callbacks_in_which_it_waits(self, server: Driver, way: type) -> None:
        server.create("p", timeout_at=START + LEASE)
        server.create("dep", target=None)
        server.register_callback("dep", "p")
        way(server)
        assert server.callbacks("dep") == set()

    def test_wakes_a_suspended_awaiter(self, server: Driver, way: type) -> None:
        server.create("p", timeout_at=START + LEASE)
        server.suspended("awaiter", "p")
        way(server)
        assert ("awaiter", 1) in server.take_executes()

    def test_tells_each_listener_once(self, server: Driver, way: type) -> None:
        server.create("p", timeout_at=START + LEASE)
        server.register_listener("p", ADDRESS)

        way(server)
        server.get("p")

        [unblock] = server.take_unblocks()
        assert (unblock.address, unblock.promise) == (ADDRESS, server.promise("p"))
        assert unblock.promise.state is not PromiseState.PENDING
        assert server.listeners("p") == []

    def test_clears_its_own_task_except_for_the_version(self, server: Driver, way: type) -> None:
        server.create("p", timeout_at=START + LEASE)
        server.create("dep", target=None)
        server.register_callback("dep", "p")
        server.settle("dep")
        before = server.task("p")
        assert before.resumes == 1

        way(server)

        task = server.task("p")
        assert task == Task("p", TARGET, TaskState.FULFILLED, version=task.version)

    def test_withdraws_its_own_execute(self, server: Driver, way: type) -> None:
        """Section 9, item 8."""
        server.create("p", timeout_at=START + LEASE)
        way(server)
        assert "p" in server.take_withdrawn()


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.ACQUIRED, TaskState.SUSPENDED, TaskState.HALTED])
def test_a_notified_awaiter_waits_only_for_the_rest(server: Driver, state: TaskState) -> None:
    server.create("p", target=None)
    server.create("q", target=None)
    getattr(server, state.value)("awaiter")
    server.register_callback("p", "awaiter")
    server.register_callback("q", "awaiter")

    server.settle("p")

    task = server.task("awaiter")
    assert task.resumes == 1
    assert server.store.snapshot().callbacks == [PutCallback("q", "awaiter")]


def test_a_chain_of_three_resolves_link_by_link(server: Driver) -> None:
    """Section 8: baz fulfils, bar wakes; bar fulfils, foo wakes; foo fulfils, the caller is notified."""
    server.acquired("c")
    server.register_listener("c", ADDRESS)
    server.acquired("c:1")
    server.acquired("c:1.1")
    server.suspend("c", 1, "c:1")
    server.suspend("c:1", 1, "c:1.1")
    server.forget_messages()

    server.fulfill("c:1.1", 1)
    assert server.take_executes() == [("c:1", 1)]
    server.acquire("c:1", 1)
    server.fulfill("c:1", 2)
    assert server.take_executes() == [("c", 1)]
    server.acquire("c", 1)
    server.fulfill("c", 2, result=value("3"))
    [unblock] = server.take_unblocks()
    assert (unblock.address, unblock.promise.value) == (ADDRESS, value("3"))
