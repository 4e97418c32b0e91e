"""A function that blocks the event loop beyond its lease still runs only once, and the log names it."""

import re

import pytest
from harness.basics import wait_until
from harness.process import Process

from .programs import GROUP, Stack

LEASE = "2"
"""Seconds: far less than a function blocks, but more than a busy machine delays a process."""


def start(stack: Stack, **environment: str) -> Process:
    return stack.connect_worker("functions", LEASE_SECONDS=LEASE, **environment)


def test_functions_that_block_beyond_their_leases_run_once(stack: Stack) -> None:
    """Even if heartbeats need a token."""
    stack.start_server(RESONATE_AUTH__TOKEN="right")
    client = stack.client("right")
    workers = [start(stack, BLOCK_SECONDS="3", RESONATE_TOKEN="right") for _ in range(2)]
    ids = ("computing", "with_a_step")
    for id in ids:
        client.begin(id, GROUP, id)
    assert [client.result(id) for id in ids] == ["done"] * 2

    def said() -> str:
        return "".join(worker.output() for worker in workers)

    line = re.compile(r"function (\w+) \(functions.py, line \d+\) blocked the event loop for (\d+\.\d) s")
    wait_until(lambda: {"computing", "step"} == {name for name, _ in line.findall(said())}, "the log names both")
    assert all(2 <= float(seconds) < 60 for _, seconds in line.findall(said()))
    assert [said().count(f"running function {name}  promise=") for name in ("computing", "step")] == [1, 1]
    assert "lease lost" not in said() and "heartbeat failed" not in said()


def test_a_function_that_stops_every_thread_is_named_when_it_returns(served: Stack) -> None:
    """Its lease cannot be kept. Which thread continues first is up to chance, so the function is not always named."""
    worker = start(served, BLOCK_SECONDS="0")
    for number in range(1, 11):
        served.client().begin(f"holding-{number}", GROUP, "holding")
        worker.wait_for(f"ended function holding  promise=holding-{number} ")
        if "function holding (functions.py, line " in worker.output():
            return
    pytest.fail("in ten runs it was not named")


def test_functions_that_block_one_after_the_other_run_once_each(served: Stack) -> None:
    """While the first one blocks, the server grants the leases of the others, but nobody reads these answers."""
    worker = start(served, BLOCK_SECONDS="1")
    client, ids = served.client(), [f"call-{number}" for number in range(6)]
    for id in ids:
        client.begin(id, GROUP, "sleeping")

    assert [client.result(id) for id in ids] == ["done"] * 6
    assert worker.count("running function sleeping") == 6
    assert "lease lost" not in worker.output()
