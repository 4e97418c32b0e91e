"""Our kernel on SQLite in memory, in this process: request bodies in, answers and messages out, time by hand."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from differential.operations import Scene
from msgspec import Struct

from resonate_server.engine.work import Result, Work
from resonate_server.kernel.model import Footprint, Rules
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import VERSION, Call, Refusal, decode_call, open_envelope
from resonate_server.protocol.errors import ProtocolError
from resonate_server.protocol.messages import Execute, Message, OwedUnblock, Unblock
from resonate_server.store.sqlite import IN_MEMORY, SQLiteStore

SERVER_URL = "http://localhost:8001"


class Reply(Struct, frozen=True):
    """``data`` as it is in JSON."""

    status: int
    data: Any


def body_of(kind: str, data: dict[str, Any], now: int, corr_id: str) -> bytes:
    head = {"corrId": corr_id, "version": VERSION, "resonate:debug_time": now}
    return json.dumps({"kind": kind, "head": head, "data": data}).encode()


class Kernel:
    """The path of a request through the server, without its threads and sockets."""

    def __init__(self, rules: Rules, server_url: str = SERVER_URL) -> None:
        self.store = SQLiteStore(IN_MEMORY)
        self._work = Work(self.store, rules, server_url)
        self._sent: list[Message] = []

    def call(self, body: bytes) -> Reply:
        answer = self._answer(body)
        return Reply(status=answer.status, data=msgspec.json.decode(msgspec.json.encode(answer.data)))

    def tick(self, now: int) -> None:
        while (result := self._transact(lambda: self._work.tick(now))) is not None:
            self._deliver(result)

    def take_sent(self) -> list[Message]:
        """Messages since last asked; they count as delivered."""
        sent, self._sent = self._sent, []
        with self.store.transaction():
            for message in sent:
                if isinstance(message, Unblock):
                    self.store.drop_unblock(message.promise.id, message.address)
        return sent

    def scene(self, now: int) -> Scene:
        with self.store.transaction():
            snapshot = self.store.snapshot()
        promises = {promise.id: promise.state.value for promise in snapshot.promises}
        tasks = {task.id: task.state.value for task in snapshot.tasks}
        held = {id for id, state in tasks.items() if state == "acquired"}
        waiting = [link for link in snapshot.callbacks if not link.fired]
        awaited = [link.awaited for link in waiting]
        awaited += sorted({link.awaited for link in waiting if link.awaiter in held}) * 8
        return Scene(now=now, promises=promises, tasks=tasks, awaited=tuple(awaited))

    def version(self, id: str) -> int:
        """Of the task; 0 if there is none."""
        with self.store.transaction():
            task = self.store.load(Footprint(ids=(id,))).tasks.get(id)
        return 0 if task is None else task.version

    def _answer(self, body: bytes) -> Answer:
        envelope = open_envelope(body)
        if isinstance(envelope, Refusal):
            return Answer(status=400, data=envelope.message)
        try:
            return self._decide(decode_call(envelope))
        except ProtocolError as error:
            return Answer(status=error.status, data=error.message)

    def _decide(self, call: Call) -> Answer:
        result = self._transact(lambda: self._work.answer(call, now=0))
        self._deliver(result)
        while (rest := result.rest) is not None:
            result = self._transact(lambda rest=rest: rest(0))  # type: ignore[misc]
            self._deliver(result)
        assert result.answer is not None
        return result.answer

    def _transact[T](self, work: Callable[[], T]) -> T:
        with self.store.transaction():
            return work()

    def _deliver(self, result: Result) -> None:
        for effect in result.effects:
            effect(self)

    # --- engine.Outbound --------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        self._sent.append(message)

    def withdraw(self, task_id: str) -> None:
        pass

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None:
        pass

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        pass

    def is_at_work(self, pid: str) -> None:
        pass

    def refresh(self) -> None:
        pass

    def reset(self) -> None:
        self._sent.clear()

    def silent(self, pid: str) -> None:
        pass

    def heard(self, pid: str) -> None:
        pass
