"""The servers of a run and their store."""

from simulation import invariants
from simulation.run import Run
from simulation.server import Server

from resonate_server.store import Snapshot


class Cluster:
    """``faults``: the names of the faults that may strike it. ``servers``: its servers, including dead ones."""

    faults: tuple[str, ...]
    trouble_s: tuple[float, ...] = (10, 30, 60)
    """How long the faults last in a run: one of these."""
    slack_s = 0.0
    """Extra time in which all work must get done."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.servers: list[Server] = []

    async def begin(self) -> None:
        """Start all servers."""
        raise NotImplementedError

    async def strike(self, fault: str) -> None:
        """Cause a fault, which ends by itself after a while."""
        raise NotImplementedError

    async def calm_down(self) -> None:
        """Undo all lasting faults now."""

    async def close(self) -> None:
        """Clean up after the run."""

    def snapshot(self) -> Snapshot:
        """Return everything that was committed."""
        raise NotImplementedError

    def inspect(self) -> Snapshot:
        """Check the invariants that hold at any time."""
        snapshot = self.snapshot()
        self.run.check(self.run.ledger.survives(snapshot))
        self.run.check(invariants.a_task_is_fulfilled_exactly_when_its_promise_is_settled(snapshot))
        self.run.check(invariants.every_suspended_task_awaits_something(snapshot))
        return snapshot
