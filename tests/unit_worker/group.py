"""Workers in this process, and a client that calls them through a real server."""

import asyncio
import itertools
import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness.process import Process
from harness.server import FAR, ServerProcess, encoded

from worker import RunningWorker, Settings, Worker

_numbers = itertools.count(1)

type Told = Callable[[str], bool]


class Group:
    """A group with its workers, and a client that calls them."""

    def __init__(self, server: ServerProcess, health_file: Path) -> None:
        """Use a unique name, because all tests share the server."""
        self.server, self.health_file = server, health_file
        self.name = f"group-{next(_numbers)}"
        self._client = server.client()
        self._workers: list[RunningWorker] = []

    async def work(
        self, *functions: Callable[..., Any], lease: float = 60, places: int = 8, offers_faults: bool = False
    ) -> RunningWorker:
        settings = Settings(self.server.url, None, timedelta(seconds=lease), places, self.health_file)
        running = RunningWorker(Worker(self.name, *functions), settings._replace(offers_faults=offers_faults))
        self._workers.append(running)
        await running.stream.wait_until_connected()
        return running

    def begin(self, function: str, *args: Any) -> str:
        id = f"{function}-{next(_numbers)}"
        assert self._client.begin(id, self.name, function, *args).status == 200
        return id

    def begin_as(self, call: Any) -> str:
        """Begin what is perhaps no call at all."""
        id, tags = f"odd-{next(_numbers)}", {"resonate:target": f"poll://any@{self.name}"}
        created = self._client.call("promise.create", id=id, timeoutAt=FAR, param=encoded(call), tags=tags)
        assert created.status == 200
        return id

    async def result(self, id: str) -> Any:
        await until(lambda: self.promise(id)["state"] != "pending")
        return json.loads(b64decode(self.promise(id)["value"]["data"]))

    def promise(self, id: str) -> dict[str, Any]:
        promise: dict[str, Any] = self._client.call("promise.get", id=id).data["promise"]
        return promise

    def task(self, id: str) -> dict[str, Any]:
        task: dict[str, Any] = self._client.call("task.get", id=id).data["task"]
        return task

    async def waits(self, id: str) -> None:
        await until(lambda: self.task(id)["state"] == "suspended")

    def settle(self, id: str, value: Any) -> None:
        self.settle_as(id, "resolved", json.dumps(value).encode())

    def settle_as(self, id: str, state: str, value: bytes) -> None:
        data = {"data": b64encode(value).decode()}
        assert self._client.call("promise.settle", id=id, state=state, value=data).status == 200

    async def close(self) -> None:
        for running in self._workers:
            await running.stop()


def launched(folder: Path, code: str, **env: str) -> Process:
    """Run Python code as a program of its own."""
    file = folder / f"program-{next(_numbers)}.py"
    file.write_text(code)
    return Process([sys.executable, str(file)], file.with_suffix(".log"), env).launch()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
