"""Which tasks this worker holds: a network of the SDK that watches what passes through another one."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec
from resonate.error import ConnectorError, ResonateError
from resonate.send import Sender, TaskRef
from resonate_base.connections import Network

from worker.runs import LEASE_IS_GONE, RunLog

CLAIMS: Final = {"task.acquire", "task.create"}
GIVES_UP: Final = {"task.suspend", "task.fulfill", "task.release"}
OK: Final = 200
ERROR: Final = 400


class LeaseKeeper:
    """Keeps account of the leases, and gives them all back at the end.

    They are read off the requests themselves, so that a lease which is granted in the very moment of
    stopping, or whose function has not started yet, is known as well.
    """

    def __init__(self, network: Network, runs: RunLog) -> None:
        """`runs`: is told what the server makes of each end."""
        self._network = network
        self._runs = runs
        self._held: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._in_flight: set[asyncio.Future[None]] = set()
        self._closing = False

    async def start(self) -> None:
        await self._network.start()

    async def stop(self) -> None:
        await self._network.stop()

    def leases(self) -> dict[str, int]:
        """Versions by task: of what is held, and of what was asked for and may have been granted. From any thread."""
        return self._asked | self._held

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:
        """Pass a request on, unless the worker is about to end: then nothing is begun any more."""
        self._refuse_if_closing()
        request = msgspec.json.decode(req, type=_Request)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(answered)
        try:
            with self._asking(request):
                answer = await self._network.send(req, headers)
            self._note(request, answer)
        except TimeoutError as error:
            # A connection may fail with this error alone; any other one makes the SDK leak the lease.
            raise ConnectorError(error) from error
        finally:
            self._in_flight.discard(answered)
            answered.set_result(None)
        self._refuse_if_closing()
        return answer

    async def close(self, limit: float) -> None:
        """Begin nothing any more, and wait up to `limit` seconds for the answers that are under way."""
        self._closing = True
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=limit)

    async def release_all(self, sender: Sender, limit: float) -> int:
        """Release every lease within `limit` seconds; how many the server took back."""
        releases = [asyncio.create_task(self._release(sender, *lease)) for lease in self._held.items()]
        if not releases:
            return 0
        done, late = await asyncio.wait(releases, timeout=limit)
        for release in late:
            release.cancel()
        return sum(release.result() for release in done)

    def _refuse_if_closing(self) -> None:
        if self._closing:
            raise ConnectorError(RuntimeError("the worker is shutting down"))

    @contextlib.contextmanager
    def _asking(self, request: "_Request") -> Iterator[None]:
        """An answer may wait for the event loop to read it for longer than the lease that it grants."""
        if request.kind != "task.acquire":
            yield
            return
        task = msgspec.json.decode(request.data, type=_Task)
        self._asked[task.id] = task.version + 1  # by which a claim raises it
        try:
            yield
        finally:
            self._asked.pop(task.id, None)

    def _note(self, request: "_Request", answer: str) -> None:
        if request.kind not in CLAIMS | GIVES_UP:
            return
        with contextlib.suppress(msgspec.MsgspecError):  # an answer nobody can read grants nothing
            status = msgspec.json.decode(answer, type=_Answer).head.status
            if request.kind in GIVES_UP:
                task = msgspec.json.decode(request.data, type=_Task)
                self._note_end(task, status)
                self._tell_end(request, TaskRef(id=task.id, version=task.version), answer, status)
            elif status == OK:
                self._note_claim(msgspec.json.decode(answer, type=_ClaimAnswer).data)

    def _note_claim(self, claim: "_Claim") -> None:
        # The SDK drops the tasks of timers without a word; their leases lapse.
        if claim.task.state == "acquired" and claim.promise.tags.get("resonate:timer") != "true":
            self._held[claim.task.id] = claim.task.version

    def _note_end(self, task: "_Task", status: int) -> None:
        if status == OK or (status in LEASE_IS_GONE and self._held.get(task.id) == task.version):
            self._held.pop(task.id, None)

    def _tell_end(self, request: "_Request", task: TaskRef, answer: str, status: int) -> None:
        if status >= ERROR:
            self._runs.refused(task, status, msgspec.json.decode(answer, type=_Refusal).data)
        elif request.kind == "task.suspend":
            awaited = [action.data.awaited for action in msgspec.json.decode(request.data, type=_Suspension).actions]
            self._runs.suspended(task, awaited, goes_on=status != OK)
        elif request.kind == "task.fulfill":
            self._runs.fulfilled(task)
        else:
            self._runs.released(task)

    async def _release(self, sender: Sender, id: str, version: int) -> bool:
        try:
            await sender.task_release(id, version)
        except ResonateError:
            return False
        self._runs.withdrawn(TaskRef(id=id, version=version))
        return True


class _Request(msgspec.Struct):
    kind: str
    data: msgspec.Raw


class _Head(msgspec.Struct):
    status: int


class _Answer(msgspec.Struct):
    head: _Head


class _Refusal(msgspec.Struct):
    data: str


class _Callback(msgspec.Struct):
    awaited: str


class _Action(msgspec.Struct):
    data: _Callback


class _Task(msgspec.Struct):
    id: str
    version: int
    state: str = ""


class _Suspension(msgspec.Struct):
    actions: list[_Action] = []


class _Promise(msgspec.Struct):
    tags: dict[str, str] = {}


class _Claim(msgspec.Struct):
    task: _Task
    promise: _Promise


class _ClaimAnswer(msgspec.Struct):
    data: _Claim
