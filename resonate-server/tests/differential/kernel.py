"""Our kernel in this process: request bodies in, answers and messages out, with time set by hand."""

import asyncio
import json
from typing import Any

import msgspec
from differential.operations import Scene
from msgspec import Struct
from unit.engines import HandClock, InstantStore, Notes

from resonate_server import kernel
from resonate_server.engine import Engine
from resonate_server.kernel.model import Footprint, Rule, Rules
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import VERSION, CheckedRequest, UnreadableRequest, decode_request, open_envelope
from resonate_server.protocol.errors import ProtocolError
from resonate_server.protocol.messages import Message, Unblock
from resonate_server.store.sqlite import IN_MEMORY, Database

SERVER_URL = "http://localhost:8001"

LOOP = asyncio.new_event_loop()
METRICS = Metrics()
"""Shared by all kernels because it is slow to build."""


class Reply(Struct, frozen=True):
    status: int
    data: Any


def body_of(kind: str, data: dict[str, Any], now: int, corr_id: str) -> bytes:
    head = {"corrId": corr_id, "version": VERSION, "resonate:debug_time": now}
    return json.dumps({"kind": kind, "head": head, "data": data}).encode()


class Kernel:
    """The path of a request through the server, without its threads and sockets."""

    def __init__(self, rules: Rules, server_url: str = SERVER_URL, store: Database | None = None) -> None:
        """``store``: an empty database, or a stand-in with the same interface; by default one in memory."""
        self.store = store or Database(IN_MEMORY)
        self._notes = Notes()
        self._rules = rules
        self._seam = InstantStore(self.store, HandClock(lambda: 0))
        self._engine = Engine(self._seam, rules, METRICS, server_url)
        LOOP.run_until_complete(self._start())

    async def _start(self) -> None:
        self._engine.start(self._notes)

    def call(self, body: bytes) -> Reply:
        answer = self._answer(body)
        return Reply(status=answer.status, data=msgspec.json.decode(msgspec.json.encode(answer.data)))

    def tick(self, now: int) -> None:
        while LOOP.run_until_complete(self._decide(*kernel.due(self._rules, at=now))).data:
            pass

    async def _decide(self, footprint: Footprint, rule: Rule) -> Answer:
        return await self._seam.decide(footprint, rule)

    def take_sent(self) -> list[Message]:
        """Return the messages since the last call; they count as delivered."""
        sent, self._notes.messages = self._notes.messages, []
        for message in sent:
            if isinstance(message, Unblock):
                self.store.delivered(message.key)
        return sent

    def scene(self, now: int) -> Scene:
        snapshot = self.store.snapshot()
        promises = {promise.id: promise.state.value for promise in snapshot.promises}
        tasks = {task.id: task.state.value for task in snapshot.tasks}
        held = {id for id, state in tasks.items() if state == "acquired"}
        awaited = [link.awaited for link in snapshot.callbacks]
        awaited += sorted({link.awaited for link in snapshot.callbacks if link.awaiter in held}) * 8
        return Scene(now=now, promises=promises, tasks=tasks, awaited=tuple(awaited))

    def version(self, id: str) -> int:
        """Return the task's version; 0 if there is no such task."""
        task = self.store.load(Footprint(ids=(id,))).tasks.get(id)
        return 0 if task is None else task.version

    def _answer(self, body: bytes) -> Answer:
        envelope = open_envelope(body)
        if isinstance(envelope, UnreadableRequest):
            return Answer(status=400, data=envelope.message)
        try:
            return LOOP.run_until_complete(self._submit(decode_request(envelope)))
        except ProtocolError as error:
            return Answer(status=error.status, data=error.message)

    async def _submit(self, call: CheckedRequest) -> Answer:
        return await self._engine.submit(call)
