"""Running PostgreSQL stores as in servers, what listens to them, and what is asked. No assertions in here."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from harness.server import FAR
from unit.driver import CORR_ID, promise_create

from resonate_server import kernel
from resonate_server.kernel.model import Footprint, Rule, Rules
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.records import EMPTY, Value
from resonate_server.protocol.requests import PromiseCreate, Request, TaskAcquire
from resonate_server.store import Decided
from resonate_server.store.found import Snapshot
from resonate_server.store.postgres import PostgresStore
from resonate_server.store.postgres.driver import ServingConnection, Source
from resonate_server.store.sharing import PeerListener, Rosters
from resonate_server.store.view import View

LEASE = 3_600_000
RULES = Rules(retry_timeout_ms=LEASE)
PATIENCE_S = 60
LOOKING = 2
"""Connections for reads, of each server."""


class Told:
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.requests: list[Decided] = []
        self.shared: list[int] = []
        """For each commit, how many requests shared it."""

    def decided(self, decided: Decided) -> None:
        if decided.request is not None:
            self.requests.append(decided)

    def committed(self, decisions: int, seconds: float) -> None:  # noqa: ARG002  the listener's
        self.shared.append(decisions)


class Notes(PeerListener):
    """A listener that records its calls."""

    def __init__(self) -> None:
        self.rosters: dict[int, bytes] = {}
        self.rung: list[str] = []
        self.missed = 0
        self.inherited: list[bytes] = []

    def update_rosters(self, rosters: Rosters) -> None:
        self.rosters = dict(rosters)

    def heard(self, messages: str) -> None:
        self.rung.append(messages)

    def may_have_missed(self) -> None:
        self.missed += 1

    def inherits(self, roster: bytes) -> None:
        self.inherited.append(roster)


def answering(request: Request) -> tuple[Footprint, Rule]:
    return kernel.answering(CheckedRequest(corr_id=CORR_ID, request=request), RULES)


def create(id: str, param: Value = EMPTY) -> PromiseCreate:
    """Create a promise in the branch of its tree's root, as the child of the one above it."""
    return promise_create(
        id, timeout_at=FAR, param=param, branch=id.partition(".")[0], parent=id.rpartition(".")[0] or id
    )


def acquire(id: str, version: int, pid: str = "pid-1") -> TaskAcquire:
    return TaskAcquire(id=id, version=version, pid=pid, ttl=LEASE)


async def execute(url: str, statement: str, *parameters: Any) -> list[Any]:
    async with await Source(url).connect_async() as connection:
        cursor = await connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []


class Server:
    """A server's running store. ``told``: its decisions; ``notes``: what it heard of other servers."""

    def __init__(self, url: str) -> None:
        self.store, self.told, self.notes = PostgresStore(url, 1 + LOOKING), Told(), Notes()
        self.sharing = self.store.sharing
        self.sharing.listener = self.notes
        self.store.start(self.told)

    async def begin(self) -> bool:
        """Wait until it works; return whether it is the first."""
        async with asyncio.timeout(PATIENCE_S), self.store.beginning() as is_first:
            return is_first

    @property
    def connection(self) -> ServingConnection | None:
        """The one that decides."""
        return self.store._connection

    @property
    def backend(self) -> int:
        """The process of the database that serves that connection."""
        return 0 if self.connection is None else self.connection.backend

    async def call(self, request: Request) -> Answer:
        [answer] = await self.at_once(request)
        return answer

    async def at_once(self, *asked: Request | tuple[Footprint, Rule]) -> list[Answer]:
        """Queue all requests before any of them is decided."""
        questions = [each if isinstance(each, tuple) else answering(each) for each in asked]
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*[self.store.decide(*question) for question in questions])

    async def everything(self) -> Snapshot:
        return await self.store.read(View.snapshot)


class Site:
    """Servers on one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._servers: list[Server] = []

    async def server(self) -> Server:
        """Start another server and wait until it works."""
        server = self.start()
        await server.begin()
        return server

    async def connected(self, count: int) -> list[Server]:
        """Start servers and wait until each knows the others."""
        servers = [await self.server() for _ in range(count)]
        await until(lambda: all(len(each.notes.rosters) == count - 1 and each.notes.missed for each in servers))
        return servers

    def start(self, url: str = "") -> Server:
        self._servers.append(server := Server(url or self.url))
        return server

    async def execute(self, statement: str, *parameters: Any) -> list[Any]:
        return await execute(self.url, statement, *parameters)

    async def end_connections(self) -> None:
        await self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    async def close(self) -> None:
        for server in self._servers:
            await server.store.close()


class Freezer:
    """Freezes processes of the database until the end of the test."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.frozen: list[int] = []

    def freeze(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.frozen.append(pid)

    def thaw(self) -> None:
        for pid in self.frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def ask(self, statement: str, *parameters: Any) -> Any:
        with psycopg.connect(self._url, options="-c search_path=resonate") as connection:
            return connection.execute(statement.encode(), parameters or None).fetchall()


async def until(condition: Callable[[], object], every: float = 0.01) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(every)
