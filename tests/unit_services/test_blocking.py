"""A function that blocks the event loop beyond its lease: it runs once all the same, and the log names it."""

import re

import pytest
from harness.basics import wait_until

from .calls import Calls
from .programs import Program, Stack

GROUP = "service-blocking"
LEASE = "1"


def start(stack: Stack, **environment: str) -> Program:
    worker = stack.start_worker("blocking", environment={"LEASE_SECONDS": LEASE, **environment})
    worker.wait_for("connected to server")
    return worker


@pytest.mark.parametrize(
    ("function", "culprit"), [("sleeping", "sleeping"), ("computing", "computing"), ("with_a_step", "step")]
)
def test_a_function_that_blocks_beyond_its_lease_runs_once(stack: Stack, function: str, culprit: str) -> None:
    stack.start_server()
    worker = start(stack, BLOCK_SECONDS="5")
    other = start(stack, BLOCK_SECONDS="5")
    calls = Calls(stack.server_port)

    assert calls.result(calls.begin("once", GROUP, function)) == "done"

    def said() -> str:
        return worker.output + other.output

    assert said().count(f"running function {culprit}  promise=") == 1
    assert "lease lost" not in said()
    line = re.compile(rf"function {culprit} \(blocking.py, line \d+\) blocked the event loop for (\d+\.\d) s")
    wait_until(lambda: line.search(said()), "the log names the function and the seconds")
    assert 4 <= float(line.findall(said())[0]) < 15


def test_functions_that_block_one_after_the_other_run_once_each(stack: Stack) -> None:
    """While the first one blocks, the leases of the others are granted, and nobody reads that they are."""
    stack.start_server()
    worker = start(stack, BLOCK_SECONDS="1")
    calls = Calls(stack.server_port)

    ids = [calls.begin(f"call-{number}", GROUP, "sleeping") for number in range(6)]

    assert [calls.result(id) for id in ids] == ["done"] * 6
    assert worker.count("running function sleeping") == 6
    assert "lease lost" not in worker.output


def test_a_process_that_hangs_loses_its_work_to_another_one(stack: Stack) -> None:
    stack.start_server()
    hanging = start(stack, BLOCK_SECONDS="60", KEEP_SECONDS="3")
    calls = Calls(stack.server_port)
    id = calls.begin("hanging", GROUP, "sleeping")
    hanging.wait_for("running function sleeping")
    quick = start(stack, BLOCK_SECONDS="0")

    assert calls.result(id) == "done"

    assert quick.count("running function sleeping") == 1
    hanging.wait_for("its leases are not kept any longer")
