"""What the worker learns from the SDK's requests, as a network that wraps another one: which tasks it holds, and the
results of calls that it both begins and runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from resonate.error import ConnectorError, ResonateError, ServerError
from resonate.send import Sender, TaskRef
from resonate.types import PromiseRecord, TaskRecord
from resonate_base.connections import Network

from worker.runs import LEASE_IS_GONE, STOPS, RunLog

if TYPE_CHECKING:
    from worker.tracing import Tracing

logger = logging.getLogger(__name__)

CLAIMS: Final = {"task.acquire", "task.create"}
RELEASING: Final = {"task.suspend", "task.fulfill", "task.release"}
WATCHED: Final = CLAIMS | RELEASING

PATIENCE_MS: Final = 200
"""How long the server is asked to leave a waiting task with this worker: often the awaited result arrives by then."""
LISTEN_SECONDS: Final = 1.0
"""Others may settle the call meanwhile: somebody who cancels it, or its next holder if this process was frozen."""
ROOM_BYTES: Final = 48 * 1024 * 1024
"""For the answers to claims, which stay in memory until their tasks leave. Decoded, they take a good twice as much."""
UNREAD_BYTES: Final = 4 * 1024 * 1024
"""How large a task may be, for all that is known before the server answers its claim."""


# ── the parts that are read of the SDK's requests and their answers ──


class Head(msgspec.Struct, rename="camel"):
    corr_id: str = ""
    status: int = 0


class ActionData(msgspec.Struct):
    state: str = ""
    awaited: str = ""


class Action(msgspec.Struct):
    data: ActionData


class Asked(msgspec.Struct):
    id: str = ""
    version: int = 0
    awaited: str = ""
    action: Action | None = None
    actions: list[Action] = []

    @property
    def task(self) -> TaskRef:
        return TaskRef(id=self.id, version=self.version)


class Request(msgspec.Struct):
    kind: str
    data: Asked
    head: Head = msgspec.field(default_factory=Head)


class Answer(msgspec.Struct):
    kind: str
    head: Head
    data: msgspec.Raw

    def belongs_to(self, request: Request) -> bool:
        return self.kind == request.kind and self.head.corr_id == request.head.corr_id

    @property
    def text(self) -> str:
        return msgspec.json.decode(self.data, type=str)


class WithPromise(msgspec.Struct):
    promise: PromiseRecord


class Claim(msgspec.Struct):
    task: TaskRecord
    promise: msgspec.Raw


class OwnResults:
    """The SDK registers a listener for each call that it begins, but a web application completes most of its calls
    itself. So the listener is registered only when the call's task leaves this worker, or after a while.

    `ask` sends a request to the server and returns its answer; `tell` gives the SDK a message as from the stream.
    """

    def __init__(self, ask: Callable[[str], Awaitable[str]], tell: Callable[[str], None]) -> None:
        self._ask, self._tell = ask, tell
        self._begun: dict[str, msgspec.Raw] = {}
        """Promises of calls that were begun here and whose tasks have not left."""
        self._deferred: dict[str, asyncio.Future[msgspec.Raw | None]] = {}
        """By call for which a listener was asked: how it leaves."""
        self._following: set[asyncio.Task[None]] = set()

    def begins(self, id: str, promise: msgspec.Raw) -> None:
        self._begun[id] = promise

    def defer(self, request: Request, req: str) -> str | None:
        """Answer a request for a listener here, and send it later, if at all. Return None if it must be sent now."""
        id = request.data.awaited
        if (promise := self._begun.pop(id, None)) is None:
            return None
        left = self._deferred[id] = asyncio.get_running_loop().create_future()
        following = asyncio.create_task(self._follow(id, req, left))
        self._following.add(following)
        following.add_done_callback(self._following.discard)
        head = {"corrId": request.head.corr_id, "status": HTTPStatus.OK}
        return msgspec.json.encode({"kind": request.kind, "head": head, "data": {"promise": promise}}).decode()

    def leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        """Note that the call's task is gone. `settled`: data with its promise, if this worker has settled it."""
        self._begun.pop(id, None)
        if (left := self._deferred.pop(id, None)) is not None:
            left.set_result(settled)

    async def _follow(self, id: str, req: str, left: "asyncio.Future[msgspec.Raw | None]") -> None:
        """Send the request unless this worker settles the call first. If refused, the SDK asks again later."""
        await asyncio.wait([left], timeout=LISTEN_SECONDS)
        if not left.done():
            del self._deferred[id]
        elif (settled := left.result()) is not None:
            self._tell_of(settled)
            return
        with suppress(ConnectorError, msgspec.MsgspecError):
            answer = msgspec.json.decode(await self._ask(req), type=Answer)
            if msgspec.json.decode(answer.data, type=WithPromise).promise.state != "pending":
                self._tell_of(answer.data)

    def _tell_of(self, settled: msgspec.Raw) -> None:
        self._tell(msgspec.json.encode({"kind": "unblock", "data": settled}).decode())


class LeaseKeeper:
    """Keeps track of the leases, and releases them all at the end.

    It learns them from the requests themselves, so it also knows a lease that is granted just as the worker stops, or
    whose function has not started yet.
    """

    def __init__(
        self,
        network: Network,
        runs: RunLog,
        tell: Callable[[str], None],
        places: int,
        tracing: "Tracing | None" = None,
    ) -> None:
        """`runs`, `tracing`: learn how each attempt ends; `tell`: gives the SDK a message as from the stream;
        `places`: how many tasks may run at a time."""
        self._network, self._runs, self._tracing, self._places = network, runs, tracing, places
        self._results = OwnResults(network.send, tell)
        self._held: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        """By held task: bytes of the answer to its claim."""
        self._waiting = 0
        self._has_changed = asyncio.Event()
        """Set when there may be room for those that wait."""
        self._in_flight: set[asyncio.Future[None]] = set()
        self._closing = False

    async def start(self) -> None:
        await self._network.start()

    async def stop(self) -> None:
        await self._network.stop()

    def leases(self) -> dict[str, int]:
        """Return versions by task, of leases held and of those requested that may have been granted. Thread-safe."""
        return self._asked | self._held

    @property
    def shortage(self) -> str:
        """Why further tasks have to wait; empty if they need not."""
        if len(self.leases()) >= self._places:
            return f"all {self._places} places are taken (see MAX_TASKS)"
        return "the arguments of the tasks at work fill the memory for them" if self._waiting else ""

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        """Pass a request on. Raises :class:`ConnectorError` once the worker is shutting down."""
        self._refuse_if_closing()
        request = msgspec.json.decode(req, type=Request)
        if request.kind == "promise.register_listener" and (answer := self._results.defer(request, req)) is not None:
            return answer
        task, reason = request.data.task, ""
        if self._tracing is not None:
            req = self._tracing.signed(req)
        if request.kind == "task.acquire":
            await self._wait_for_room()
            self._asked[task.id] = task.version + 1  # as a claim raises it; it may end before the answer is read
        elif request.kind == "task.suspend" and 2 * len(self._held) <= self._places:  # the others are for new tasks
            req = _with(req, "patience", PATIENCE_MS)
        elif request.kind == "task.release" and (reason := self._runs.take_reason(task)):
            req = _with(req, "reason", reason)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(answered)
        size = 0
        try:
            answer = await self._network.send(req, headers)
            size = len(answer)
            with suppress(msgspec.MsgspecError):  # an unreadable answer grants nothing
                # The SDK rejects what belongs to another request; whatever it does not run must not be held.
                if request.kind in WATCHED and (read := msgspec.json.decode(answer, type=Answer)).belongs_to(request):
                    self._note(request, read, reason)
        finally:
            if request.kind == "task.acquire":
                self._asked.pop(task.id, None)
                if task.id in self._held:
                    self._sizes.setdefault(task.id, size)
                self._has_changed.set()
            # A released task no longer runs: if the server has not heard of that, the lease must lapse.
            if request.kind == "task.release" and self._held.get(task.id) == task.version:
                self._leaves(task.id)
            self._in_flight.discard(answered)
            answered.set_result(None)
        self._refuse_if_closing()
        return answer

    async def close(self, limit: float) -> None:
        """Refuse new requests, and wait up to `limit` seconds for those in flight."""
        self._closing = True
        self._has_changed.set()
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=limit)

    async def release_all(self, sender: Sender, limit: float) -> int:
        """Release every lease within `limit` seconds. Return how many the server took back."""
        releases = [asyncio.create_task(self._release(sender, *lease)) for lease in self._held.items()]
        if not releases:
            return 0
        done, late = await asyncio.wait(releases, timeout=limit)
        for release in late:
            release.cancel()
        return sum(release.result() for release in done)

    async def _wait_for_room(self) -> None:
        """Wait until there is room for a task that may be large. Raises :class:`ConnectorError` once closing."""
        self._waiting += 1
        try:
            while not self._closing and self._kept_bytes() + UNREAD_BYTES > ROOM_BYTES:
                self._has_changed.clear()
                await self._has_changed.wait()
        finally:
            self._waiting -= 1
        self._refuse_if_closing()

    def _kept_bytes(self) -> int:
        return sum(self._sizes.values()) + len(self._asked) * UNREAD_BYTES

    def _leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        self._held.pop(id, None)
        self._sizes.pop(id, None)
        self._has_changed.set()
        self._results.leaves(id, settled)

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise ConnectorError(RuntimeError("the worker is shutting down"))

    def _note(self, request: Request, answer: Answer, reason: str) -> None:
        kind, task, status = request.kind, request.data.task, answer.head.status
        if kind in RELEASING:
            if status == HTTPStatus.OK or (status in LEASE_IS_GONE and self._held.get(task.id) == task.version):
                is_settled = kind == "task.fulfill" and status == HTTPStatus.OK
                self._leaves(task.id, answer.data if is_settled else None)
            self._attempt_ends(request, answer, reason)
        elif status == HTTPStatus.OK:
            claim = msgspec.json.decode(answer.data, type=Claim)
            promise = msgspec.json.decode(claim.promise, type=PromiseRecord)
            # The SDK silently drops the tasks of timers; their leases lapse.
            if claim.task.state == "acquired" and promise.tags.get("resonate:timer") != "true":
                self._held[claim.task.id] = claim.task.version
                if kind == "task.create":
                    self._results.begins(claim.task.id, claim.promise)
                if self._tracing is not None:
                    self._tracing.begin(TaskRef(id=claim.task.id, version=claim.task.version), promise)
        elif status >= HTTPStatus.BAD_REQUEST and status not in LEASE_IS_GONE:
            # If it is gone, another worker or another copy of the message was first: work is handed out only once.
            logger.warning("claiming %s failed: %s", task.id or "a task", ServerError(status, answer.text))

    def _attempt_ends(self, request: Request, answer: Answer, reason: str) -> None:
        """Report how the attempt ended. If the server refuses that, the SDK releases the task next."""
        task, status = request.data.task, answer.head.status
        awaited = [action.data.awaited for action in request.data.actions]
        if status in LEASE_IS_GONE:
            outcome = "lease lost"
            self._runs.ends(task, f"lease lost, leaving the task to others (code={status}): {answer.text}")
        elif status >= HTTPStatus.BAD_REQUEST:
            if request.kind == "task.release":
                self._runs.ends(task, f"broken off, and held until its lease ends: {answer.text}")
            else:
                self._runs.failed(task, answer.text)
            return
        elif request.kind == "task.suspend":
            outcome, goes_on = "suspended", status != HTTPStatus.OK
            self._runs.suspended(task, awaited, goes_on=goes_on)
            if goes_on:
                return
        elif request.kind == "task.fulfill":
            outcome = request.data.action.data.state if request.data.action else ""
            self._runs.fulfilled(task)
        else:
            outcome = "given back"
            self._runs.given_back(task, reason)
        if self._tracing is not None:
            self._tracing.end(task, outcome, awaited, reason)

    async def _release(self, sender: Sender, id: str, version: int) -> bool:
        try:
            await sender.task_release(id, version)
        except ResonateError:
            return False
        task = TaskRef(id=id, version=version)
        self._runs.ends(task, f"given back: {STOPS}")
        if self._tracing is not None:
            self._tracing.end(task, "given back")
        return True


def _with(req: str, member: str, value: Any) -> str:
    """Add a member to the request's data. Other servers ignore it."""
    request = msgspec.json.decode(req)
    request["data"][member] = value
    return msgspec.json.encode(request).decode()
