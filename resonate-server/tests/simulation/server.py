"""Simulated servers: the real engine, hub and kernel, without sockets; they can be killed or stalled at any point."""

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from msgspec.structs import replace
from simulation import invariants
from simulation.loop import ACTOR
from simulation.network import Stream
from simulation.run import Run

from resonate_server.config import HttpPush
from resonate_server.delivery import UNBLOCK_KEPT_S, Hub, Presence, Push, WorkerStream
from resonate_server.engine import Engine, Outbound
from resonate_server.engine.reports import lost_leases
from resonate_server.kernel.model import Decision, Footprint, LinkFootprint, Rows, Rule, Rules
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import decode_request, open_envelope
from resonate_server.protocol.requests import (
    Request,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)
from resonate_server.store import Decided, Store
from resonate_server.store.found import Snapshot

WRITES = (TaskRelease, TaskFulfill, TaskSuspend, TaskFence)

RETRY_S = 30
GRACE_S = 3.0
KEEP_ALIVE_S = 10.0

METRICS = Metrics()
"""Shared by all runs: building it takes longer than a run."""

RULES = Rules(retry_timeout_ms=RETRY_S * 1_000, notify_batch_size=1)


class CountingEngine(Engine):
    def __init__(self, run: Run, store: Store) -> None:
        super().__init__(store, RULES, METRICS, "http://localhost:8001")
        self._run = run

    def decided(self, decided: Decided) -> None:
        self._run.happened["lease lost"] += len([*lost_leases(decided)])
        super().decided(decided)


def watched(run: Run, rule: Rule) -> Rule:
    def decide(rows: Rows, now: int) -> Decision | Footprint | LinkFootprint:
        outcome = rule.decide(rows, now)
        if isinstance(outcome, Decision):
            _check(run, rule.request, rows, outcome)
        return outcome

    return replace(rule, decide=decide)


def _check(run: Run, request: Request | None, rows: Rows, decision: Decision) -> None:
    is_claim = isinstance(request, TaskCreate | TaskAcquire)
    for id, task in decision.changes.tasks.items():
        run.check(invariants.a_version_grows_only_by_a_claim(rows.tasks.get(id), task, is_claim))
    if isinstance(request, WRITES):
        before = rows.tasks.get(request.id)
        run.check(invariants.a_worker_s_write_needs_the_lease(before, request, decision.answer.status))
    elif isinstance(request, TaskAcquire):
        run.check(invariants.a_claim_names_the_version_it_takes(request, decision.answer))
    elif isinstance(request, TaskHeartbeat):
        for id in decision.changes.tasks:
            run.check(invariants.only_the_holder_extends_a_lease(rows.tasks.get(id), request))


class Server:
    """One life of a server process."""

    def __init__(self, run: Run, engine: Engine) -> None:
        self.run = run
        self.alive = True
        self.is_still = False
        self.context = copy_context()
        self.context.run(ACTOR.set, self)
        self.engine = engine
        self.presence = Presence(GRACE_S, engine.now, lambda group, pid: self.worker_gone(group, pid))
        self.hub = Hub(engine, Push(HttpPush(), "", METRICS, lambda _: None), self.presence, METRICS)
        self._open: set[asyncio.Future[Answer]] = set()
        self._streams: dict[Stream, asyncio.Task[None]] = {}
        self.outbound: Outbound

    def worker_gone(self, group: str, pid: str) -> None:
        self.engine.worker_gone(group, pid)

    def start(self) -> None:
        self.context.run(self.engine.start, self.outbound)
        self.begin(self._keep_house())

    def begin(self, duty: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.run.loop.create_task(duty, context=self.context)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(60)
            self.presence.forget_departed()
            self.engine.forget_stale_unblocks(UNBLOCK_KEPT_S)

    # --- requests ---------------------------------------------------------------------------------------------------

    def accept(self, body: bytes) -> asyncio.Future[Answer]:
        """Return the future answer to a request that has arrived; ``ConnectionError`` if the server dies first."""
        answer: asyncio.Future[Answer] = self.run.loop.create_future()
        self._open.add(answer)
        answer.add_done_callback(self._open.discard)
        self.begin(self._answer(body, answer))
        return answer

    async def _answer(self, body: bytes, answer: asyncio.Future[Answer]) -> None:
        decided = await self.engine.submit(decode_request(open_envelope(body)))
        if decided.status == 500:
            self.run.broken.append(f"answered 500: {body.decode()}")
        if not answer.done():
            answer.set_result(decided)

    # --- streams ----------------------------------------------------------------------------------------------------

    def connect(self, stream: Stream, seconds: float) -> None:
        """Serve a stream for ``seconds`` at most."""
        self._streams[stream] = self.begin(self._serve(stream, seconds))

    def lose(self, stream: Stream) -> None:
        """The server finds that the peer is gone."""
        task = self._streams.pop(stream, None)
        if task is not None and self.alive:
            task.cancel()

    async def _serve(self, stream: Stream, seconds: float) -> None:
        loop = self.run.loop
        connection = self.hub.connect(stream.group, stream.pid)
        end = loop.time() + seconds
        planned = False
        try:
            while not connection.closed and (left := end - loop.time()) > 0:
                for message in await connection.wait(min(KEEP_ALIVE_S, left)):
                    stream.write(message)
            planned = True
        finally:
            self._end(stream, connection, planned)

    def _end(self, stream: Stream, connection: WorkerStream, planned: bool) -> None:
        if not self.alive:
            return
        self._streams.pop(stream, None)
        self.hub.disconnect(connection, planned)
        if planned:
            self.run.happened["stream ended by the server"] += 1
            stream.end()

    # --- death ------------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Stop at once, at any point. Requests in flight get no answer, streams break."""
        if not self.alive:
            return
        self.alive = False
        self.run.loop.hold(self)
        for stream in self._streams:
            stream.end()
        for answer in self._open:
            if not answer.done():
                answer.set_exception(ConnectionError("the server died"))
                answer.exception()


class Cluster:
    """The servers of a run and their store.

    ``faults``: the names of the faults that may strike it. ``servers``: its servers, including dead ones.
    """

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
