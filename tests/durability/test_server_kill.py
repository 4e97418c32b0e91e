"""SIGKILL of the server under load, again and again: what was acknowledged is there, and every chain completes.

The load keeps its own record of what was acknowledged; the server is asked for all of it at the end. The chains run
in the real workers.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from durability.load import Load, check_everything_is_there, wait_for_chains
from harness.server import ServerProcess
from harness.services import ServiceProcess

pytestmark = pytest.mark.long

KILLS = 12
CLIENTS = 4


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
