"""SIGKILL of the server under load, again and again: what was acknowledged is there, and every chain completes.

The load keeps its own record of what was acknowledged; the server is asked for all of it at the end. The chains run
in the real workers.
"""

import base64
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from harness.server import FAR, Client, ServerProcess
from harness.services import ServiceProcess
from msgspec import Struct, field

pytestmark = pytest.mark.long

KILLS = 20
CLIENTS = 4


class Acknowledged(Struct):
    """What the server said it has done."""

    created: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=list)


class Load(threading.Thread):
    """Creates promises, settles every other one, and starts a chain now and then; goes on when the server is back."""

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
            except (OSError, HTTPException):
                time.sleep(0.05)

    def _step(self, client: Client, count: int) -> None:
        id = f"client-{self._number}-{count}"
        if count % 50 == 1:
            start_chain(client, f"chain-{id}")
            self.acknowledged.chains.append(f"chain-{id}")
        assert client.create(id).status == 200
        self.acknowledged.created.append(id)
        if count % 2:
            assert client.call("promise.settle", id=id, state="resolved", value={"data": id}).status == 200
            self.acknowledged.settled.append(id)


def start_chain(client: Client, id: str) -> None:
    """bar → baz, as an SDK would start it."""
    call = json.dumps({"func": "bar", "args": [], "kwargs": {}, "version": 1})
    tags = {"origin": id, "branch": id, "parent": id, "scope": "global", "target": "poll://any@service-bar"}
    reply = client.call(
        "promise.create",
        id=id,
        timeoutAt=FAR,
        param={"data": base64.b64encode(call.encode()).decode()},
        tags={f"resonate:{name}": value for name, value in tags.items()},
    )
    assert reply.status == 200


@pytest.fixture
def workers() -> Iterator[list[ServiceProcess]]:
    started: list[ServiceProcess] = []
    yield started
    for worker in started:
        worker.kill()


def test_nothing_acknowledged_is_lost_and_every_chain_completes(tmp_path: Path, workers: list[ServiceProcess]) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    moments = random.Random(seed)
    server = ServerProcess(tmp_path / "server.log", tmp_path / "state.db").start()
    workers += [ServiceProcess(name, server.url, tmp_path / f"{name}.log") for name in ("bar", "baz")]
    stop = threading.Event()
    load = [Load(number, server.port, stop) for number in range(CLIENTS)]
    for thread in load:
        thread.start()

    for _ in range(KILLS):
        time.sleep(moments.uniform(0.05, 1.0))
        server.kill()
        server.start()
    time.sleep(1)
    stop.set()
    for thread in load:
        thread.join()

    acknowledged = [thread.acknowledged for thread in load]
    client = server.client()
    try:
        check_everything_is_there(client, acknowledged)
        wait_for_chains(client, [id for record in acknowledged for id in record.chains])
    finally:
        server.stop()


def check_everything_is_there(client: Client, acknowledged: list[Acknowledged]) -> None:
    created = [id for record in acknowledged for id in record.created]
    settled = {id for record in acknowledged for id in record.settled}
    print(f"acknowledged: {len(created)} created, {len(settled)} settled")
    assert len(created) > KILLS
    for id in created:
        promise = client.call("promise.get", id=id).data["promise"]
        if id in settled:
            assert promise["state"] == "resolved"
            assert promise["value"] == {"data": id}


def wait_for_chains(client: Client, ids: list[str]) -> None:
    """Every chain resolves to 2 within a minute."""
    print(f"{len(ids)} chains")
    assert len(ids) >= CLIENTS
    deadline = time.monotonic() + 60
    for id in ids:
        while (promise := client.call("promise.get", id=id).data["promise"])["state"] == "pending":
            assert time.monotonic() < deadline, f"{id} is still pending"
            time.sleep(0.05)
        assert (id, promise["state"], promise["value"]) == (id, "resolved", {"data": base64.b64encode(b"2").decode()})
