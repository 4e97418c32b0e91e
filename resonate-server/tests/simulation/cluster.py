"""The servers of a run, and where they keep their state."""

from simulation import invariants
from simulation.run import Run
from simulation.server import Server

from resonate_server.store import Snapshot


class Cluster:
    """``faults``: what may strike it, by name. ``servers``: as many as there are, also dead ones."""

    faults: tuple[str, ...]
    trouble_s: tuple[float, ...] = (10, 30, 60)
    """For so long, one of these, there are faults."""
    slack_s = 0.0
    """What is added to the time in which everything must get done."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.servers: list[Server] = []

    async def begin(self) -> None:
        """All of them are started."""
        raise NotImplementedError

    async def strike(self, fault: str) -> None:
        """It is undone by itself, after a while."""
        raise NotImplementedError

    async def calm_down(self) -> None:
        """Whatever fault lasts is undone now."""

    async def close(self) -> None:
        """The run is over."""

    def snapshot(self) -> Snapshot:
        """Everything that was committed."""
        raise NotImplementedError

    def inspect(self) -> Snapshot:
        """What must hold at any time is checked."""
        snapshot = self.snapshot()
        self.run.check(self.run.ledger.survives(snapshot))
        self.run.check(invariants.a_task_is_fulfilled_exactly_when_its_promise_is_settled(snapshot))
        self.run.check(invariants.every_suspended_task_awaits_something(snapshot))
        return snapshot
