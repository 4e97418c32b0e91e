"""Which tasks this worker holds: a network for the SDK that wraps another one and watches its requests."""

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

import msgspec
from resonate.error import ConnectorError, ResonateError, ServerError
from resonate.send import Sender, TaskRef
from resonate_base.connections import Network

from worker.results import OwnResults
from worker.runs import LEASE_IS_GONE, RunLog
from worker.wire import Answer, Claim, Promise, Request, Task

logger = logging.getLogger(__name__)

CLAIMS: Final = {"task.acquire", "task.create"}
RELEASING: Final = {"task.suspend", "task.fulfill", "task.release"}

PATIENCE_MS: Final = 200
"""How long the server is asked to leave a waiting task with this worker: often the awaited result arrives by then."""


class LeaseKeeper:
    """Keeps track of the leases, and releases them all at the end.

    It learns them from the requests themselves, so it also knows a lease that is granted just as the worker stops, or
    whose function has not started yet.
    """

    def __init__(self, network: Network, runs: RunLog, results: OwnResults, places: int) -> None:
        """`runs`: is told how the server answers the end of each run; `places`: how many tasks may run at a time."""
        self._network = network
        self._runs = runs
        self._results = results
        self._places = places
        self._held: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._in_flight: set[asyncio.Future[None]] = set()
        self._closing = False

    async def start(self) -> None:
        await self._network.start()

    async def stop(self) -> None:
        await self._network.stop()

    def leases(self) -> dict[str, int]:
        """Return versions by task, of leases held and of those requested that may have been granted. Thread-safe."""
        return self._asked | self._held

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        """Pass a request on. Raises :class:`ConnectorError` once the worker is shutting down."""
        self._refuse_if_closing()
        request = msgspec.json.decode(req, type=Request)
        if request.kind == "promise.register_listener" and (answer := self._results.defer(request, req)) is not None:
            return answer
        watched = request.kind in CLAIMS | RELEASING
        task = msgspec.json.decode(request.data, type=Task) if watched else Task()
        if request.kind == "task.acquire":  # the lease may end before the answer is read
            self._asked[task.id] = task.version + 1  # as a claim raises it
        elif request.kind == "task.suspend" and 2 * len(self._held) <= self._places:  # the others are for new tasks
            req = _with(req, "patience", PATIENCE_MS)
        elif request.kind == "task.release" and (reason := self._runs.take_reason(task.ref)):
            req = _with(req, "reason", reason)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(answered)
        try:
            answer = await self._network.send(req, headers)
            with suppress(msgspec.MsgspecError):  # an unreadable answer grants nothing
                if watched:
                    self._note(request.kind, task, msgspec.json.decode(answer, type=Answer))
        finally:
            self._asked.pop(task.id, None)
            if request.kind == "task.release":
                self._drop(task)  # It no longer runs: if the server has not heard of that, the lease must lapse.
            self._in_flight.discard(answered)
            answered.set_result(None)
        self._refuse_if_closing()
        return answer

    async def close(self, limit: float) -> None:
        """Refuse new requests, and wait up to `limit` seconds for those in flight."""
        self._closing = True
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

    def _drop(self, task: Task) -> None:
        if self._held.get(task.id) == task.version:
            self._leaves(task.id)

    def _leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        self._held.pop(id, None)
        self._results.leaves(id, settled)

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise ConnectorError(RuntimeError("the worker is shutting down"))

    def _note(self, kind: str, task: Task, answer: Answer) -> None:
        status = answer.head.status
        if kind in RELEASING:
            if status == HTTPStatus.OK or (status in LEASE_IS_GONE and self._held.get(task.id) == task.version):
                is_settled = kind == "task.fulfill" and status == HTTPStatus.OK
                self._leaves(task.id, answer.data if is_settled else None)
            self._log_end(kind, task, answer)
        elif status == HTTPStatus.OK:
            claim = msgspec.json.decode(answer.data, type=Claim)
            # The SDK silently drops the tasks of timers; their leases lapse.
            tags = msgspec.json.decode(claim.promise, type=Promise).tags
            if claim.task.state == "acquired" and tags.get("resonate:timer") != "true":
                self._held[claim.task.id] = claim.task.version
                if kind == "task.create":
                    self._results.begins(claim.task.id, claim.promise)
        elif status >= HTTPStatus.BAD_REQUEST and status not in LEASE_IS_GONE:
            # If it is gone, another worker or another copy of the message was first: work is handed out only once.
            logger.warning("claiming %s failed: %s", task.id or "a task", ServerError(status, answer.text))

    def _log_end(self, kind: str, task: Task, answer: Answer) -> None:
        ref, status = task.ref, answer.head.status
        if status >= HTTPStatus.BAD_REQUEST:
            self._runs.refused(ref, status, answer.text)
        elif kind == "task.suspend":
            awaited = [action["data"]["awaited"] for action in task.actions]
            self._runs.suspended(ref, awaited, goes_on=status != HTTPStatus.OK)
        elif kind == "task.fulfill":
            self._runs.fulfilled(ref)
        else:
            self._runs.released(ref)

    async def _release(self, sender: Sender, id: str, version: int) -> bool:
        try:
            await sender.task_release(id, version)
        except ResonateError:
            return False
        self._runs.withdrawn(TaskRef(id=id, version=version))
        return True


def _with(req: str, member: str, value: Any) -> str:
    """Add a member to the request's data. Other servers ignore it."""
    request = msgspec.json.decode(req)
    request["data"][member] = value
    return msgspec.json.encode(request).decode()
