"""A server as the SDK's network sees it, without a network."""

import asyncio
import json
from typing import Any

from resonate.error import ConnectorError

from worker.leases import LeaseKeeper


class FakeServer:
    """Gives the answers that a test has prepared by kind, and records the requests that it answers."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self.answers = answers
        self.requests: list[dict[str, Any]] = []
        self.is_away = False
        self.head: dict[str, str] = {}
        """What differs in the heads of its answers."""
        self.answering = asyncio.Event()
        self.answering.set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send(self, req: str, headers: dict[str, str] | None = None) -> str:  # noqa: ARG002
        await self.answering.wait()
        request = json.loads(req)
        kind = request["kind"]
        self.requests.append(request)
        if self.is_away:
            raise ConnectorError(OSError("nobody there"))
        status, data = self.answer(kind)
        head = {"corrId": request["head"]["corrId"], "status": status} | self.head
        return json.dumps({"kind": kind, "head": head, "data": data})

    def answer(self, kind: str) -> tuple[int, Any]:
        return self.answers[kind]

    def asked(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of all requests of a kind."""
        return [request["data"] for request in self.requests if request["kind"] == kind]


async def ask(keeper: LeaseKeeper, kind: str, **data: Any) -> Any:
    """Send a request as the SDK does, and return the answer."""
    head = {"corrId": f"about {kind}", "version": "2026-04-01"}
    return json.loads(await keeper.send(json.dumps({"kind": kind, "head": head, "data": data})))
