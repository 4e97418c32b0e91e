"""SIGKILL the server under load, again and again, with real workers."""

import os
import random
import threading
import time
from pathlib import Path

import pytest
from durability.load import Load, check_everything_is_there, wait_for_chains
from harness.server import ServerProcess
from harness.stack import Stack

pytestmark = pytest.mark.long

KILLS = 12
CLIENTS = 4


def test_nothing_acknowledged_is_lost_and_every_chain_completes(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    print(f"SEED={seed}")
    moments = random.Random(seed)
    server = ServerProcess(tmp_path / "server.log", tmp_path / "state.db")
    with Stack(tmp_path, server):
        kill_under_load(server, moments)


def kill_under_load(server: ServerProcess, moments: random.Random) -> None:
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
    check_everything_is_there(server.client(), acknowledged)
    wait_for_chains(server.client(), [id for record in acknowledged for id in record.chains])
