"""How a settlement spreads: section 3.5, and section 9, items 8 and 13."""

import pytest
from unit.driver import LEASE, START, TARGET, Driver
from unit.stories import happen

from resonate_server.kernel.model import PutCallback, Task
from resonate_server.protocol.records import PromiseState, TaskState

ADDRESS = "poll://uni@callers/1"


WAYS = {
    "settle": "settle p",
    "fulfill": "acquire p 0; fulfill p 1",
    "fence": "acquired other; settle_fenced other p",
    "expiry": f"wait {LEASE}",
    "touch": f"later {LEASE}; get p",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
class TestEveryWayToSettle:
    @pytest.fixture
    def server(self, server: Driver) -> Driver:
        server.create("p", timeout_at=START + LEASE)
        return server

    def test_deletes_the_callbacks_in_which_it_waits(self, server: Driver, way: str) -> None:
        server.create("dep", target=None)
        server.register_callback("dep", "p")
        happen(server, way)
        assert server.callbacks("dep") == set()

    def test_wakes_a_suspended_awaiter(self, server: Driver, way: str) -> None:
        server.suspended("awaiter", "p")
        happen(server, way)
        assert ("awaiter", 1) in server.take_executes()

    def test_tells_each_listener_once(self, server: Driver, way: str) -> None:
        server.register_listener("p", ADDRESS)

        happen(server, way)
        server.get("p")

        [unblock] = server.take_unblocks()
        assert (unblock.address, unblock.promise) == (ADDRESS, server.promise("p"))
        assert unblock.promise.state is not PromiseState.PENDING
        assert server.listeners("p") == []

    def test_clears_its_own_task_except_for_the_version(self, server: Driver, way: str) -> None:
        server.create("dep", target=None)
        server.register_callback("dep", "p")
        server.settle("dep")
        assert server.task("p").resumes == 1

        happen(server, way)

        task = server.task("p")
        assert task == Task("p", TARGET, TaskState.FULFILLED, version=task.version)

    def test_withdraws_its_own_execute(self, server: Driver, way: str) -> None:
        """Section 9, item 8."""
        happen(server, way)
        assert "p" in server.take_withdrawn()


@pytest.mark.parametrize("state", ["pending", "acquired", "suspended", "halted"])
def test_a_notified_awaiter_waits_only_for_the_rest(server: Driver, state: str) -> None:
    happen(server, f"create p -; create q -; {state} t; register_callback p t; register_callback q t; settle p")
    assert server.task("t").resumes == 1
    assert server.store.snapshot().callbacks == [PutCallback("q", "t")]
