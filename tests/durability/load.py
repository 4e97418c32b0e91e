"""Clients that keep a record of what the server acknowledged, and checks that the server still has it."""

import threading
import time
from http.client import HTTPException

from harness.server import Client, Reply
from msgspec import Struct, field


class Refused(Exception):
    """The server answered 503; the request may be retried."""


class Acknowledged(Struct):
    """Ids of everything that the server has acknowledged."""

    created: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=list)


class Load(threading.Thread):
    """Creates promises, settles every other one and now and then starts a chain; continues once the server is back."""

    def __init__(self, number: int, port: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.acknowledged = Acknowledged()
        self._number, self._port, self._stop_event = number, port, stop

    def run(self) -> None:
        client = Client(self._port)
        count = 0
        while not self._stop_event.is_set():
            count += 1
            try:
                self._step(client, count)
            except (Refused, OSError, HTTPException):
                time.sleep(0.05)

    def _step(self, client: Client, count: int) -> None:
        id = f"client-{self._number}-{count}"
        if count % 50 == 1:
            start_chain(client, f"chain-{id}")
            self.acknowledged.chains.append(f"chain-{id}")
        accepted(client.create(id))
        self.acknowledged.created.append(id)
        if count % 2:
            accepted(client.call("promise.settle", id=id, state="resolved", value={"data": id}))
            self.acknowledged.settled.append(id)


def start_chain(client: Client, id: str, pause: float = 0, running: float = 0) -> None:
    """Call bar → baz, as an SDK would. ``pause`` and ``running``: seconds for which bar sleeps and works."""
    accepted(client.begin(id, "service-bar", "bar", pause, running))


def accepted(reply: Reply) -> None:
    if reply.status == 503:
        raise Refused(reply.data)
    assert reply.status == 200, reply


def check_everything_is_there(client: Client, acknowledged: list[Acknowledged]) -> None:
    created = [id for record in acknowledged for id in record.created]
    settled = {id for record in acknowledged for id in record.settled}
    print(f"acknowledged: {len(created)} created, {len(settled)} settled")
    assert created
    for id in created:
        promise = client.call("promise.get", id=id).data["promise"]
        if id in settled:
            assert promise["state"] == "resolved"
            assert promise["value"] == {"data": id}


def wait_for_chains(client: Client, ids: list[str]) -> None:
    """Wait until every chain has resolved to 2."""
    print(f"{len(ids)} chains")
    assert ids
    assert {id: client.result(id) for id in ids} == dict.fromkeys(ids, 2)
