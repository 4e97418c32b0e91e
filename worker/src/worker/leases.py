"""What the worker learns from the SDK's requests, as a network that wraps another one: which tasks it holds, and the
results of calls that it both begins and runs.

The SDK registers a listener for each call that it begins, but a web application completes most of its calls itself. So
the listener is registered only when the call's task leaves this worker, or after a while.
"""

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

from worker.room import Room
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
        """The message of a refusal."""
        return msgspec.json.decode(self.data, type=str)


class WithPromise(msgspec.Struct):
    promise: PromiseRecord


class Claim(msgspec.Struct):
    task: TaskRecord
    promise: msgspec.Raw


class OwnResults:
    """`ask` sends a request to the server and returns its answer; `tell` gives the SDK a message as from the stream."""

    def __init__(self, ask: Callable[[str], Awaitable[str]], tell: Callable[[str], None]) -> None:
        self._ask, self._tell = ask, tell
        self._begun: dict[str, msgspec.Raw] = {}
        """Promises of calls that were begun here and whose tasks have not left."""
        self._deferred: dict[str, tuple[str, asyncio.TimerHandle]] = {}
        """By call: the request for a listener, and the timer that sends it at the latest."""
        self._listening: set[asyncio.Task[None]] = set()

    def begins(self, id: str, promise: msgspec.Raw) -> None:
        """Note that this worker began a call and got its task."""
        self._begun[id] = promise

    def defer(self, request: Request, req: str) -> str | None:
        """Answer a request for a listener here, and send it later, if at all. Return None if it must be sent now."""
        id = request.data.awaited
        if (promise := self._begun.pop(id, None)) is None:
            return None
        self._deferred[id] = req, asyncio.get_running_loop().call_later(LISTEN_SECONDS, self._register, id)
        head = {"corrId": request.head.corr_id, "status": HTTPStatus.OK}
        return msgspec.json.encode({"kind": request.kind, "head": head, "data": {"promise": promise}}).decode()

    def leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        """Note that the call's task is gone. `settled`: data with its promise, if this worker has settled it."""
        self._begun.pop(id, None)
        if settled is None:
            self._register(id)
        elif id in self._deferred:
            self._taken(id)
            self._tell_of(settled)

    def _register(self, id: str) -> None:
        if id in self._deferred:
            listening = asyncio.get_running_loop().create_task(self._listen(self._taken(id)))
            self._listening.add(listening)
            listening.add_done_callback(self._listening.discard)

    def _taken(self, id: str) -> str:
        req, timer = self._deferred.pop(id)
        timer.cancel()
        return req

    async def _listen(self, req: str) -> None:
        """Send the request. If the server refuses it, the SDK's periodic refresh asks again."""
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
        self, network: Network, runs: RunLog, results: OwnResults, places: int, tracing: "Tracing | None" = None
    ) -> None:
        """`places`: how many tasks may run at a time; `runs`, `tracing`: learn how each attempt ends."""
        self._network = network
        self._runs = runs
        self._tracing = tracing
        self._results = results
        self._places = places
        self._held: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._room = Room()
        self._sizes: dict[str, int] = {}
        """By task: bytes of the room that it keeps."""
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
        return "the arguments of the tasks at work fill the memory for them" if self._room.is_full else ""

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
            await self._room.enter()
            self._refuse_if_closing()
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
                self._keep_room(task.id, size)
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
        self._room.admit_all()  # their claims are refused
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

    def _keep_room(self, id: str, size: int) -> None:
        """Keep room for a task that was claimed, or give it back if it was not, or is held already."""
        if id in self._held and id not in self._sizes:
            self._sizes[id] = size
            self._room.keep(size)
        else:
            self._room.keep(0)

    def _leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        self._held.pop(id, None)
        self._room.leave(self._sizes.pop(id, 0))
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
            if reason:
                self._runs.given_back(task, reason)
            else:
                self._runs.ends(task, outcome)
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
