"""A real ``resonate-server`` process that tests start, kill and restart, and a bare client for it."""

import base64
import itertools
import json
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from msgspec import Struct

from harness.basics import answers_200, free_port, wait_until
from harness.process import Process

VERSION = "2026-04-01"
FAR = 4_102_444_800_000
"""A deadline that no test reaches: 2100-01-01 in ms."""

_corr_ids = itertools.count(1)


class Reply(Struct, frozen=True):
    """A response whose ``status`` is the same in HTTP and in the envelope's head."""

    status: int
    data: Any


class Client:
    """Sends requests one by one over one connection; raises ``OSError`` or ``HTTPException`` if there is no server."""

    def __init__(self, port: int, timeout: float = 60, host: str = "127.0.0.1", token: str = "") -> None:
        self._connection = HTTPConnection(host, port, timeout=timeout)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def call(self, kind: str, **data: Any) -> Reply:
        head = {"corrId": f"test-{next(_corr_ids)}", "version": VERSION}
        return self.post(json.dumps({"kind": kind, "head": head, "data": data}).encode())

    def post(self, body: bytes) -> Reply:
        try:
            self._connection.request("POST", "/", body, self._headers)
            response = self._connection.getresponse()
            envelope = json.loads(response.read())
        except BaseException:
            self._connection.close()
            raise
        assert envelope["head"]["status"] == response.status
        return Reply(status=response.status, data=envelope["data"])

    def create(self, id: str, timeout_at: int = FAR, **tags: str) -> Reply:
        """Create a promise that may be awaited; tag names are given without their ``resonate:`` prefix."""
        named = {f"resonate:{name}": value for name, value in {"external": "true", **tags}.items()}
        return self.call("promise.create", id=id, timeoutAt=timeout_at, param={}, tags=named)

    def begin(self, id: str, group: str, function: str, *args: object) -> Reply:
        """Call a worker's function, as an SDK would do it."""
        call = {"func": function, "args": args, "kwargs": {}, "version": 1}
        tags = {"origin": id, "branch": id, "parent": id, "scope": "global", "target": f"poll://any@{group}"}
        named = {f"resonate:{name}": text for name, text in tags.items()}
        return self.call("promise.create", id=id, timeoutAt=FAR, param=encoded(call), tags=named)

    def state(self, id: str) -> str:
        """Return the state of a promise, or an empty string if there is none."""
        reply = self.call("promise.get", id=id)
        return str(reply.data["promise"]["state"]) if reply.status == 200 else ""

    def result(self, id: str) -> Any:
        """Wait for a call to settle and return its result, decoded as an SDK does; fail unless it was resolved."""
        wait_until(lambda: self.state(id) not in ("", "pending"), f"{id} has come to its end")
        promise = self.call("promise.get", id=id).data["promise"]
        assert promise["state"] == "resolved", promise
        return json.loads(base64.b64decode(promise["value"]["data"]))

    def end_sleep(self, id: str) -> None:
        """Wait until the chain with that id sleeps, and settle the sleep.

        So a test can choose a pause long enough for everything it must observe meanwhile.
        """
        wait_until(lambda: self._sleeps(id), f"{id} sleeps")
        for sleep in self._sleeps(id):
            assert self.call("promise.settle", id=sleep, state="resolved").status == 200

    def _sleeps(self, id: str) -> list[str]:
        tags = {"resonate:origin": id, "resonate:timer": "true"}
        found = self.call("promise.search", state="pending", tags=tags)
        return [promise["id"] for promise in found.data["promises"]]


def encoded(value: Any) -> dict[str, str]:
    """Return a value as SDKs send it."""
    return {"data": base64.b64encode(json.dumps(value).encode()).decode()}


class ServerProcess(Process):
    """``path`` is the SQLite file, or ``None`` for a server in memory. stdout and stderr go to ``log``."""

    def __init__(self, log: Path, path: Path | None = None, port: int | None = None, **env: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        where = ["serve", "--db", str(path)] if path else ["dev"]
        listen = ["--host", "127.0.0.1", "--port", str(self.port)]
        command = [sys.executable, "-m", "resonate_server", *where, *listen]
        super().__init__(command, log, {"RESONATE_OBSERVABILITY__METRICS_PORT": "0", **env})

    def start(self) -> Self:
        """Return once it is ready; raise with its log if it ends instead."""
        self.launch()
        wait_until(lambda: self.is_ready() or not self.is_running, f"{self.log} tells of a server", every=0.02)
        if not self.is_running:
            raise RuntimeError(f"the server did not come up:\n{self.output()}")
        return self

    def is_ready(self) -> bool:
        return answers_200(self.port, "/ready")

    def client(self) -> Client:
        return Client(self.port)
