"""The call tree of a chain, as the server knows it: promises, which created which, and their tasks.

SDKs write a promise's function or error into it by their own convention, which the server never reads; a promise that
does not follow it is shown without them.
"""

import base64
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Struct, field

from resonate_server.client.server_connection import CallFailed, ServerConnection
from resonate_server.client.values import now_ms
from resonate_server.protocol.address import group_of
from resonate_server.protocol.lineage import rows
from resonate_server.protocol.payload import NOT_JSON, function_of
from resonate_server.protocol.records import Promise, PromiseState, Role, TaskRecord, TaskState, Value

PAGE = 100
MAX_CALLS = 100_000
"""A server with more is not drawn: its pages may never end."""


class Phase(Struct, frozen=True):
    """What a call did from ``begin`` (ms) on, as the server reports it, and its reason, such as "nobody"."""

    kind: str
    begin: int = field(name="from")
    reason: str = ""


class CallTask(Struct, frozen=True):
    """``attempt``: the latest one, 0 before the first. ``pid``: the worker that holds it. ``trouble``: what is wrong
    with it, in words; ``why``: the reason given by the worker that released it last."""

    state: TaskState
    attempt: int = 0
    pid: str | None = None
    trouble: str = ""
    why: str = ""


class Call(Struct, frozen=True):
    """One promise and its place in the tree.

    ``depth``: levels below the topmost one; ``follows``: whether a sibling follows. ``host``: the call that runs it, if
    it is a step. ``phases``: its life, oldest first; empty if the server does not report it.
    """

    promise: Promise
    task: CallTask | None
    depth: int = 0
    follows: bool = False
    host: "Call | None" = None
    phases: list[Phase] = []

    @property
    def is_settled(self) -> bool:
        return self.promise.state is not PromiseState.PENDING

    @property
    def settled_at(self) -> int | None:
        return self.promise.settled_at if isinstance(self.promise.settled_at, int) else None

    @property
    def role(self) -> Role:
        return self.promise.role

    @property
    def name(self) -> str:
        """The name to show."""
        if self.role is Role.TIMER:
            return "sleep"
        return function_of(self.promise) or ("step" if self.role is Role.STEP else "promise")

    @property
    def group(self) -> str:
        """Where it runs: a group of workers, or a URL."""
        return group_of(self.promise.target) or ""

    @property
    def result(self) -> Any:
        """The decoded value it was settled with; ``None`` also if the value cannot be decoded."""
        return _decode(self.promise.value)

    @property
    def error(self) -> str | None:
        """The message it was rejected with."""
        message = self.result.get("message") if isinstance(self.result, dict) else None
        return message if isinstance(message, str) else None


class _Life(Struct):
    """A call as this server knows it."""

    id: str
    phases: list[Phase]
    task: CallTask | None = None


class _ChainLives(Struct):
    promises: list[_Life]
    at: int = 0
    story: list[str] = []


class CallTree:
    """The tree below promise ``id``; may be read repeatedly.

    Of a server that does not report lives, or not all, each task is requested until it is fulfilled. As this server
    reported at the last read: ``story`` is what a fault did to the whole chain, in sentences; ``ahead``: how far its
    clock, which dates the calls, is ahead of this machine's (ms).
    """

    def __init__(self, connection: ServerConnection, id: str) -> None:
        self._connection = connection
        self._id = id
        self._fulfilled: dict[str, CallTask] = {}
        self._has_lives = True
        self.story: list[str] = []
        self.ahead = 0

    def now(self) -> int:
        """Return the time in ms since the epoch."""
        return now_ms() + self.ahead

    def read(self) -> list[Call]:
        """Return the calls: the promise itself first, every parent before its children. Raises :class:`CallFailed`."""
        try:
            return self._read()
        except (msgspec.ValidationError, KeyError, TypeError):
            raise CallFailed("the server answered with records that this tool does not know", 200) from None

    def _read(self) -> list[Call]:
        top = msgspec.convert(self._connection.call("promise.get", {"id": self._id})["promise"], Promise)
        origin = top.origin or self._id
        promises = self._of_origin(origin)
        promises.setdefault(self._id, top)
        lives = self._lives()
        for promise in promises.values():
            if promise.id not in lives:
                lives[promise.id] = _Life(promise.id, [], self._task(promise))
        calls: dict[str, Call] = {}
        for row in rows(promises.values(), origin if origin in promises else self._id, self._id):
            id, host = row.node.id, None if row.host is None else calls[row.host.id]
            calls[id] = Call(row.node, lives[id].task, row.depth, row.follows, host, lives[id].phases)
        return [*calls.values()]

    def _lives(self) -> dict[str, _Life]:
        """Return the lives that this server gives its page. Others do not know the request, and are asked once."""
        if not self._has_lives:
            return {}
        try:
            answer = self._connection.get(f"ui/api/chain?{urlencode({'id': self._id})}")
            told = msgspec.json.decode(answer, type=_ChainLives)
            self.story, self.ahead = told.story, told.at - now_ms() if told.at else 0
            return {life.id: life for life in told.promises}
        except CallFailed as error:
            if error.is_transient:
                raise
        except NOT_JSON:
            pass
        self._has_lives = False
        return {}

    def _of_origin(self, origin: str) -> dict[str, Promise]:
        """Return the promises by id. A page without any new one is the last: cursors may lead in a circle."""
        found: dict[str, Promise] = {}
        query: dict[str, Any] = {"tags": {"resonate:origin": origin}, "limit": PAGE}
        while True:
            page = self._connection.call("promise.search", query)
            known = len(found)
            found |= {promise.id: promise for promise in msgspec.convert(page["promises"], list[Promise])}
            if len(found) == known or page.get("cursor") is None:
                return found
            if len(found) > MAX_CALLS:
                raise CallFailed(f"the chain has more than {MAX_CALLS:,} calls")
            query["cursor"] = page["cursor"]

    def _task(self, promise: Promise) -> CallTask | None:
        if promise.target is None:
            return None
        if promise.id in self._fulfilled:
            return self._fulfilled[promise.id]
        try:
            record = msgspec.convert(self._connection.call("task.get", {"id": promise.id})["task"], TaskRecord)
        except CallFailed as error:
            if error.status == 404:
                return None
            raise
        task = CallTask(record.state, record.version, record.pid or None, record.trouble, record.reason or "")
        if task.state is TaskState.FULFILLED:
            self._fulfilled[promise.id] = task
        return task


def _decode(value: Value) -> Any:
    """Decode what an SDK wrote: base64 of JSON."""
    try:
        return None if value.data is UNSET else msgspec.json.decode(base64.b64decode(value.data))
    except (ValueError, RecursionError):
        return None
