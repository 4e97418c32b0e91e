"""The demo as processes for a browser to look at: the server, foo, bar and baz."""

import json
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

from harness.basics import wait_until
from harness.page import Page
from harness.server import FAR, Client, ServerProcess
from harness.services import SERVICES
from harness.stack import Stack

LONG = 60
"""Seconds; a test itself ends a pause this long."""

LEASE_SECONDS = "4"
"""Shorter than usual, like the grace period below, because tests wait until a killed worker is given up."""


class Demo(Stack):
    """Everything runs after :meth:`start`; tests may kill and start any of it."""

    server: ServerProcess

    def __init__(self, folder: Path, grace_ms: int = 1_500) -> None:
        server = ServerProcess(
            folder / "server.log", folder / "resonate.sqlite", RESONATE_TASKS__WORKER_GRACE=str(grace_ms)
        )
        super().__init__(folder, server, {"LEASE_SECONDS": LEASE_SECONDS, "DEMO_FAULTS": "1"})
        server.env["RESONATE_UI__ACTIONS_URL"] = f"http://127.0.0.1:{self.foo_port}/actions"

    @property
    def page(self) -> str:
        return f"{self.server.url}/ui/"

    def connected(self) -> Counter[str]:
        """Return the number of connected workers of each group."""
        with Page(self.server.port).watch() as watching:
            groups = watching.hello["groups"]
        return Counter(
            group["name"] for group in groups for worker in group["workers"] if worker["state"] == "connected"
        )

    def kill(self, name: str) -> None:
        self.programs[name].kill()

    def restore(self) -> None:
        """Start again whatever a test has killed."""
        if not self.server.is_running:
            self.server.start()
        for name in SERVICES:
            if not self.programs[name].is_running:
                self.launch(name)
        wait_until(self.is_healthy, "foo answers")
        wait_until(self._has_workers, "bar and baz are connected")

    def _has_workers(self) -> bool:
        there = self.connected()
        return bool(there["service-bar"] and there["service-baz"])

    def send(self, id: str, **body: float) -> None:
        """Let foo start a chain, without waiting for its answer."""
        assert self.post(body, key=id, prefer="respond-async").status == 202

    def client(self) -> Client:
        return self.server.client()


def payload(data: Any) -> dict[str, str]:
    """Encode the data as the SDK does."""
    return {"data": b64encode(json.dumps(data).encode()).decode()}


def create(client: Client, id: str, param: Any = None, **tags: str) -> None:
    """Create a promise with ``param`` in it; tag names are given without their ``resonate:`` prefix."""
    named = {f"resonate:{name}": text for name, text in tags.items()}
    given = {} if param is None else payload(param)
    assert client.call("promise.create", id=id, timeoutAt=FAR, param=given, tags=named).status == 200


def settle(client: Client, id: str, value: Any, state: str = "resolved") -> None:
    assert client.call("promise.settle", id=id, state=state, value=payload(value)).status == 200
