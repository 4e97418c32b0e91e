"""Servers that share a store, in one process: real hubs and presences, a bus that delivers on demand, and no engine.
No assertions in here."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from unit.hubs import Scene, until

from resonate_server.delivery import Dispatcher, Push
from resonate_server.engine import Engine
from resonate_server.metrics import Metrics
from resonate_server.peers import Peers
from resonate_server.protocol.messages import Execute, Message
from resonate_server.protocol.records import Promise
from resonate_server.store.sharing import Alone, PeerListener, Sharing


class Bus:
    """Holds messages until a test calls :meth:`deliver`."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.rung: list[tuple[int, bytes]] = []
        self.mentioned: list[bytes] = []
        """The messages that are not urgent."""

    def deliver(self) -> None:
        rung, self.rung = self.rung, []
        for sender, message in rung:
            for member in self.members.values():
                if member.id != sender:
                    member.listener.heard(f"[{message.decode()}]")

    def introduce(self) -> None:
        """Tell every member what all others have published."""
        for member in self.members.values():
            member.listener.update_rosters({id: each.roster for id, each in self.members.items() if id != member.id})


class Member(Sharing):
    def __init__(self, bus: Bus, id: int) -> None:
        self.id = id
        self.listener: PeerListener = Alone()
        self.roster = b"[]"
        self.told: list[bytes] = []
        self._bus = bus
        bus.members[id] = self

    @property
    def has_others(self) -> bool:
        return len(self._bus.members) > 1

    def publish(self, roster: bytes) -> None:
        self.roster = roster
        self.told.append(roster)
        self._bus.introduce()

    def ring(self, message: bytes) -> None:
        self._bus.rung.append((self.id, message))

    def notify_later(self, message: bytes) -> None:
        self.ring(message)
        self._bus.mentioned.append(message)

    def look(self) -> asyncio.Future[None]:
        self._bus.introduce()
        looked = asyncio.get_running_loop().create_future()
        looked.set_result(None)
        return looked


class Nobody:
    """Replaces the engine and push."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        self.settled: list[str] = []
        self.time = 1_000_000
        self.promises: dict[str, Promise] = {}

    def now(self) -> int:
        return self.time

    async def read(self, query: Callable[[Any], Any]) -> Any:
        return query(self)

    def load(self, _: Any) -> Any:
        return self

    def worker_gone(self, pid: str) -> None:
        self.gone.append(pid)

    def settled_elsewhere(self, ids: list[str]) -> None:
        self.settled += ids

    def withdraw(self, *_: object) -> None:
        pass


class Server(Scene):
    """A server with a hub, on ``bus``."""

    def __init__(self, bus: Bus, id: int) -> None:
        super().__init__()
        self.id = id
        self.bus = bus
        self.member = Member(bus, id)
        self.nobody = Nobody()
        dispatcher = Dispatcher(self.hub, cast("Push", self.nobody), Metrics())
        self.peers = Peers(self.member, cast("Engine", self.nobody), self.hub, self.presence, dispatcher)
        self.peers.begin(None)
        self.router = self.peers.router

    async def has(self, pid: str, group: str = "workers") -> Any:
        """Connect a worker, let all other servers know, and return its stream."""
        stream = self.worker(pid, group)
        await asyncio.sleep(0.02)
        await until(lambda: (group, pid) in self.hub.seats() and pid.encode() in self.member.roster)
        return stream

    def decides(self, message: Message) -> None:
        """Send a message as if this server's engine had decided it, and deliver what the others are told."""
        self.router.send(message)
        self.bus.deliver()

    def claims(self, execute: Execute) -> None:
        """Claim the task through this server."""
        self.router.withdraw(execute.task_id, execute.version)
        self.bus.deliver()
