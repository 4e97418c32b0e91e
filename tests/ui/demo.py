"""The demo as processes of its own, for a browser to look at: the server, foo, bar and baz."""

import http.client
import json
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

from harness.basics import answers_200, free_port, wait_until
from harness.page import Page
from harness.server import FAR, Client, ServerProcess
from harness.services import ServiceProcess

LEASE_SECONDS = "4"
"""Shorter than usual, like the grace below: that a killed worker is given up is waited for."""


class Demo:
    """Everything runs after :meth:`start`; tests kill and start what they like."""

    def __init__(self, folder: Path, grace_ms: int = 1_500) -> None:
        self.folder = folder
        self.foo_port = free_port()
        self.server = ServerProcess(
            folder / "server.log",
            folder / "resonate.sqlite",
            RESONATE_UI__ACTIONS_URL=f"http://127.0.0.1:{self.foo_port}/actions",
            RESONATE_TASKS__WORKER_GRACE=str(grace_ms),
        )
        self.workers: dict[str, ServiceProcess] = {}

    @property
    def page(self) -> str:
        return f"{self.server.url}/ui/"

    def start(self) -> None:
        self.server.start()
        for name in ("baz", "bar", "foo"):
            self.begin(name)
        self.wait_for_services()

    def wait_for_services(self) -> None:
        wait_until(lambda: answers_200(self.foo_port, "/health"), "foo answers")
        wait_until(self._has_workers, "bar and baz are connected")

    def _has_workers(self) -> bool:
        there = self.connected()
        return bool(there["service-bar"] and there["service-baz"])

    def connected(self) -> Counter[str]:
        """How many workers of each group."""
        with Page(self.server.port).watch() as watching:
            groups = watching.hello["groups"]
        return Counter(
            group["name"] for group in groups for worker in group["workers"] if worker["state"] == "connected"
        )

    def begin(self, name: str, instance: str = "") -> None:
        """A process of service ``name``; further ones need names of their own."""
        log = self.folder / f"{instance or name}.log"
        env = {"FOO_PORT": str(self.foo_port), "LEASE_SECONDS": LEASE_SECONDS, "DEMO_FAULTS": "1"}
        self.workers[instance or name] = ServiceProcess(name, self.server.url, log, **env)

    def kill(self, name: str) -> None:
        self.workers.pop(name).kill()

    def restore(self) -> None:
        """Whatever a test has killed runs again."""
        if not self.server.is_running:
            self.server.start()
        for name in {"foo", "bar", "baz"} - self.workers.keys():
            self.begin(name)
        self.wait_for_services()

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.stop()
        self.server.stop()

    def request(self, id: str, **body: float) -> None:
        """Have foo begin a chain, and do not wait for its answer."""
        headers = {"Idempotency-Key": id, "Content-Type": "application/json", "Prefer": "respond-async"}
        connection = http.client.HTTPConnection("127.0.0.1", self.foo_port, timeout=60)
        connection.request("POST", "/foo", json.dumps(body), headers)
        status = connection.getresponse().status
        connection.close()
        assert status == 202

    def client(self) -> Client:
        return self.server.client()


def payload(data: Any) -> dict[str, str]:
    """As the SDK writes it."""
    return {"data": b64encode(json.dumps(data).encode()).decode()}


def create(client: Client, id: str, param: Any = None, **tags: str) -> None:
    """A promise with ``param`` in it; tag names are given without their ``resonate:`` prefix."""
    named = {f"resonate:{name}": text for name, text in tags.items()}
    given = {} if param is None else payload(param)
    assert client.call("promise.create", id=id, timeoutAt=FAR, param=given, tags=named).status == 200


def settle(client: Client, id: str, value: Any, state: str = "resolved") -> None:
    assert client.call("promise.settle", id=id, state=state, value=payload(value)).status == 200
