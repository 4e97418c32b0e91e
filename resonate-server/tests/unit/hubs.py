"""What the hub's tests need around it: an owner that takes notes, messages, a clock. No assertions in here."""

from typing import Any

from resonate_server.delivery import Connection, Hub
from resonate_server.protocol.messages import Execute, Message, Unblock
from resonate_server.protocol.records import EMPTY, Promise, PromiseState


def execute(task_id: str, target: str = "poll://any@workers", version: int = 0) -> Execute:
    return Execute(task_id=task_id, version=version, target=target)


def unblock(promise_id: str, address: str = "poll://uni@callers/c1") -> Unblock:
    promise = Promise(promise_id, PromiseState.RESOLVED, EMPTY, EMPTY, {}, 5, 4, 5)
    return Unblock(promise=promise, address=address)


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


class Scene:
    """A hub with everything that it told others."""

    def __init__(self) -> None:
        self.refills: list[tuple[str, int]] = []
        self.delivered_unblocks: list[str] = []
        self.connected: list[str] = []
        self.lost: list[str] = []
        self.pushed: list[tuple[Message, str]] = []
        self.hub = Hub(self, push=lambda message, url: self.pushed.append((message, url)))

    # --- delivery.hub.Owner -----------------------------------------------------------------------------------------

    def request_refill(self, group: str, limit: int) -> None:
        self.refills.append((group, limit))

    def delivered(self, unblock: Unblock) -> None:
        self.delivered_unblocks.append(unblock.promise.id)

    def worker_connected(self, pid: str) -> None:
        self.connected.append(pid)

    def worker_lost(self, pid: str) -> None:
        self.lost.append(pid)

    # --- short spellings --------------------------------------------------------------------------------------------

    def worker(self, id: str = "w1", group: str = "workers") -> Connection:
        """A worker that connects to a group for which the store holds nothing."""
        connection = self.hub.connect(group, id)
        self.hub.refill(group, [], complete=True)
        self.refills.clear()
        return connection

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.hub.send(message)

    def claim(self, *task_ids: str) -> None:
        for task_id in task_ids:
            self.hub.withdraw(task_id)


async def received(connection: Connection) -> list[str]:
    """Ids in the messages that wait for the stream, which takes them."""
    return [_id(message) for message in await connection.wait(0)]


def _id(message: Any) -> str:
    return str(message.promise.id if isinstance(message, Unblock) else message.task_id)
