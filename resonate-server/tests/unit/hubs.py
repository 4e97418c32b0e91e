"""The surroundings of the hub in tests: an owner that takes notes, messages, a clock. No assertions in here."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from unit.rows import promise

from resonate_server.delivery import Hub, Presence, Push, WorkerStream
from resonate_server.engine import Engine
from resonate_server.metrics import Metrics
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.messages import Execute, Message, OwedUnblock, Unblock, UnblockKey
from resonate_server.protocol.records import EMPTY, PromiseState, Value


def execute(task_id: str, target: str = "poll://any@workers", version: int = 0) -> Execute:
    return Execute(task_id=task_id, version=version, target=target)


def many(count: int, target: str = "poll://any@workers", prefix: str = "t") -> list[Execute]:
    return [execute(f"{prefix}-{number}", target) for number in range(count)]


def unblock(promise_id: str, address: str = "poll://uni@callers/c1", value: Value = EMPTY) -> Unblock:
    return Unblock(promise(promise_id, PromiseState.RESOLVED, value=value), address)


PORTION = 100
"""Number of ``unblock`` messages that the store returns at a time."""


class Clock:
    """Replaces the module ``time``. ``step``: seconds that pass with each reading."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.step = 0.0

    def monotonic(self) -> float:
        self.seconds += self.step
        return self.seconds


class Scene:
    """A hub with a record of everything it told others."""

    def __init__(self) -> None:
        self.refills: list[tuple[str, int]] = []
        self.owed: dict[str, list[OwedUnblock]] = defaultdict(list)
        """Keyed by recipient as in the store: ``group`` or ``group/id``."""
        self.recalled: list[str] = []
        self.set_aside: list[tuple[str, list[str]]] = []
        self._place = 0
        self.delivered_unblocks: list[str] = []
        self.now = 1_000_000
        """Presence's clock, in ms."""
        self.presence = Presence(3_600, lambda: self.now, lambda *_: None)
        self.pushed: list[tuple[Message, str]] = []
        push = pushing_to(lambda message, url: self.pushed.append((message, url)))
        self.hub = Hub(self, push, self.presence, Metrics())

    # --- delivery.hub.MessageSource ---------------------------------------------------------------------------------

    def request_refill(self, group: str, limit: int) -> None:
        self.refills.append((group, limit))

    def request_recall(self, group: str) -> None:
        self.recalled.append(group)

    def request_unblocks(self, group: str, pid: str, after: int) -> None:
        """Answer at once, in small portions."""
        everything = sorted([*self.owed[f"{group}/{pid}"], *self.owed[group]], key=lambda owed: owed.place)
        owed = [each for each in everything if each.place > after]
        self.hub.give(group, pid, after, owed[:PORTION], len(owed) <= PORTION)

    def delivered(self, key: UnblockKey) -> None:
        self.delivered_unblocks.append(key[0])
        for owed in self.owed.values():
            owed[:] = [each for each in owed if each.unblock.key != key]

    def unclaimed(self, _: str, pid: str, executes: list[Execute]) -> None:
        self.set_aside.append((pid, [each.task_id for each in executes]))

    # --- short spellings --------------------------------------------------------------------------------------------

    def worker(self, id: str = "w1", group: str = "workers") -> WorkerStream:
        """Connect a worker to a group for which the store holds nothing."""
        connection = self.hub.connect(group, id)
        self.hub.refill(group, [], complete=True)
        self.refills.clear()
        return connection

    def send(self, *messages: Message) -> None:
        """Send messages as the engine does after the commit."""
        for message in messages:
            if isinstance(message, Unblock):
                self._keep(message)
            self.hub.send(message)

    def _keep(self, unblock: Unblock) -> None:
        address = parse_address(unblock.address)
        recipient = f"{address.group}/{address.member}".rstrip("/") if isinstance(address, PollAddress) else ""
        self._place += 1
        if unblock.key not in [each.unblock.key for each in self.owed[recipient]]:
            self.owed[recipient].append(OwedUnblock(self._place, unblock))

    @property
    def waiting(self) -> list[str]:
        """Tasks that the hub keeps for a worker with room."""
        return [task_id for group in self.hub._groups.values() for task_id in group.waiting]

    def claim(self, *task_ids: str) -> None:
        for task_id in task_ids:
            self.hub.withdraw(task_id, version=2**63)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


async def received(connection: WorkerStream) -> list[str]:
    """Take the messages that wait for the stream and return the ids in them."""
    return [_id(message) for message in await connection.wait(0)]


def _id(message: Any) -> str:
    return str(message.promise.id if isinstance(message, Unblock) else message.task_id)


def pushing_to(send: Callable[[Message, str], None]) -> Push:
    return cast("Push", SimpleNamespace(send=send, withdraw=lambda *_: None))


def hub_of(engine: Engine) -> Hub:
    """Return the hub of a server that never judges a worker, and pushes to nobody."""
    return Hub(engine, pushing_to(lambda *_: None), Presence(3_600, engine.now, engine.worker_gone), Metrics())
