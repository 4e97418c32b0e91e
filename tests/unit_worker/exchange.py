"""What the SDK and a server say to each other, through a worker's lease keeper and without a network."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

from resonate.error import ConnectorError
from resonate.send import Sender
from resonate.transport import Transport

from worker.leases import LeaseKeeper
from worker.runs import RunLog

if TYPE_CHECKING:
    from worker.tracing import Tracing


class Exchange:
    """A server that grants every claim and accepts everything else, unless a test wants it otherwise."""

    def __init__(self, places: int = 64, tracing: "Tracing | None" = None) -> None:
        self.statuses: dict[str, int] = {}
        """By kind: the status of its answers, if not 200."""
        self.data: dict[str, Any] = {}
        """By kind: what its answers say, if not the usual."""
        self.head: dict[str, str] = {}
        """What differs in the heads of its answers."""
        self.state, self.task_state = "pending", "acquired"
        self.tags: dict[str, str] = {}
        self.param: dict[str, Any] = {}
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.requests: list[dict[str, Any]] = []
        self.told: list[Any] = []
        """What the SDK receives as if from the stream."""
        self.runs = RunLog()
        self.keeper = LeaseKeeper(self, self.runs, self._tell, places, tracing)
        self.sender = Sender(Transport(self.keeper), None)

    def _tell(self, message: str) -> None:
        self.told.append(json.loads(message))

    # ── the server ──

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002
        await self.answers.wait()
        request = json.loads(req)
        self.requests.append(request)
        if self.is_away:
            raise ConnectorError(OSError("nobody there"))
        kind, status = request["kind"], self.statuses.get(request["kind"], 200)
        if kind == "task.fulfill" and status == 200:
            self.state = "resolved"
        head = {"corrId": request["head"]["corrId"], "status": status} | self.head
        usual = "no" if status >= 400 else self.records(request["data"])
        return json.dumps({"kind": kind, "head": head, "data": self.data.get(kind, usual)})

    def records(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return the task and the promise that a request is about."""
        id, version = asked.get("id") or asked.get("awaited") or "a", asked.get("version", 0) + 1
        promise = {"id": id, "state": self.state, "timeoutAt": 1, "tags": self.tags, "param": self.param}
        return {"task": {"id": id, "state": self.task_state, "version": version}, "promise": promise, "preload": []}

    @property
    def kinds(self) -> list[str]:
        return [request["kind"] for request in self.requests]

    def asked(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of all requests of a kind."""
        return [request["data"] for request in self.requests if request["kind"] == kind]

    # ── the SDK ──

    async def ask(self, kind: str, status: int = 200, **data: Any) -> Any:
        """Send a request, to be answered with this status, and return the answer."""
        self.statuses[kind] = status
        head = {"corrId": f"about {kind}", "version": "2026-04-01"}
        return json.loads(await self.keeper.send(json.dumps({"kind": kind, "head": head, "data": data})))

    async def claim(self, id: str = "a", version: int = 1) -> None:
        await self.sender.task_acquire(id, version - 1, "me", 1000)

    async def end(self, kind: str, status: int = 200, id: str = "a", version: int = 1, **data: Any) -> None:
        """Report the end of an attempt."""
        await self.ask(kind, status, id=id, version=version, **data)

    async def release_all(self) -> list[tuple[str, int]]:
        """Stop as a worker does. Return the tasks that it released."""
        before = len(self.asked("task.release"))
        await self.keeper.close(0.05)
        await self.keeper.release_all(Sender(Transport(self), None), 0.2)
        return [(data["id"], data["version"]) for data in self.asked("task.release")[before:]]
