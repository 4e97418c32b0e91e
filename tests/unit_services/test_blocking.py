"""A function that blocks the event loop beyond its lease still runs only once, and the log names it."""

import re
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from harness.basics import wait_until
from harness.process import Process
from harness.server import ServerProcess

from .programs import Calls, Stack

LEASE = "2"
"""Seconds: far less than a function blocks, but more than a busy machine delays a process."""


def start(stack: Stack, **environment: str) -> Process:
    return stack.connect_worker("functions", LEASE_SECONDS=LEASE, **environment)


@pytest.mark.parametrize(("function", "culprit"), [("computing", "computing"), ("with_a_step", "step")])
def test_a_function_that_blocks_beyond_its_lease_runs_once(
    served: Stack, calls: Calls, function: str, culprit: str
) -> None:
    worker, other = (start(served, BLOCK_SECONDS="4") for _ in range(2))

    assert calls.outcome(calls.start("once", function)) == "done"

    def said() -> str:
        return worker.output() + other.output()

    assert said().count(f"running function {culprit}  promise=") == 1
    assert "lease lost" not in said()
    line = re.compile(rf"function {culprit} \(functions.py, line \d+\) blocked the event loop for (\d+\.\d) s")
    wait_until(lambda: line.search(said()), "the log names the function and the seconds")
    assert 3 <= float(line.findall(said())[0]) < 60


def test_a_function_that_stops_every_thread_is_named_when_it_returns(served: Stack, calls: Calls) -> None:
    """Its lease cannot be kept. Which thread continues first is up to chance, so the function is not always named."""
    worker = start(served, BLOCK_SECONDS="0")
    for number in range(1, 11):
        calls.start(f"holding-{number}", "holding")
        worker.wait_for(f"ended function holding  promise=holding-{number} ")
        if "function holding (functions.py, line " in worker.output():
            return
    pytest.fail("in ten runs it was not named")


def test_the_heartbeats_of_a_blocked_worker_carry_its_token(stack: Stack, tmp_path: Path) -> None:
    key, pem = Ed25519PrivateKey.generate(), tmp_path / "key.pem"
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    token = jwt.encode({"exp": int(time.time()) + 3_600, "role": "admin"}, key, "EdDSA")
    log = tmp_path / "server.log"
    server = ServerProcess(log, port=stack.server_port, RESONATE_AUTH__PUBLICKEY=str(pem)).start()
    try:
        worker = start(stack, BLOCK_SECONDS="4", RESONATE_TOKEN=token)
        calls = Calls(stack.server_port, token=token)

        assert calls.outcome(calls.start("with-a-token", "sleeping")) == "done"

        assert worker.count("running function sleeping") == 1
        assert "heartbeat failed" not in worker.output()
    finally:
        server.stop()


def test_functions_that_block_one_after_the_other_run_once_each(served: Stack, calls: Calls) -> None:
    """While the first one blocks, the server grants the leases of the others, but nobody reads these answers."""
    worker = start(served, BLOCK_SECONDS="1")
    ids = [calls.start(f"call-{number}", "sleeping") for number in range(6)]

    assert [calls.outcome(id) for id in ids] == ["done"] * 6
    assert worker.count("running function sleeping") == 6
    assert "lease lost" not in worker.output()


def test_a_hanging_process_loses_its_work_to_another(served: Stack, calls: Calls) -> None:
    hanging = start(served, BLOCK_SECONDS="60", KEEP_SECONDS="3")
    id = calls.start("hanging", "sleeping")
    hanging.wait_for("running function sleeping")
    quick = start(served, BLOCK_SECONDS="0")

    assert calls.outcome(id) == "done"

    assert quick.count("running function sleeping") == 1
    hanging.wait_for("its leases are no longer renewed")
