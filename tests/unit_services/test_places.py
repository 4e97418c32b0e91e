"""MAX_TASKS: how many tasks a worker runs at a time, and how it reports that all places are taken."""

from pathlib import Path

from harness.process import Process

from .calls import Calls
from .programs import Stack

GROUP = "service-working"


def start(stack: Stack, max_tasks: str) -> Process:
    worker = stack.start_worker("working", MAX_TASKS=max_tasks)
    worker.wait_for("connected to server")
    return worker


def test_a_full_worker_says_so_and_further_calls_wait_for_a_place(stack: Stack, tmp_path: Path) -> None:
    stack.start_server()
    worker = start(stack, max_tasks="3")
    calls = Calls(stack.server_port)
    end = tmp_path / "end"

    ids = [calls.begin(f"call-{number}", GROUP, "work", str(end)) for number in range(4)]
    worker.wait_for("all 3 places are taken")
    assert worker.count("running function work") == 3

    end.touch()
    assert [calls.result(id) for id in ids] == ["done"] * 4
    worker.wait_for("not all 3 places are taken any more")
    assert worker.count("all 3 places are taken;") == 1


def test_with_more_places_a_short_call_overtakes_a_hundred_long_ones(stack: Stack, tmp_path: Path) -> None:
    stack.start_server()
    worker = start(stack, max_tasks="128")
    calls = Calls(stack.server_port)
    end, now = tmp_path / "end", tmp_path / "now"
    now.touch()

    long = [calls.begin(f"long-{number}", GROUP, "work", str(end)) for number in range(100)]
    assert calls.result(calls.begin("short", GROUP, "work", str(now))) == "done"

    assert {calls.promise(id)["state"] for id in long} == {"pending"}
    assert "places are taken" not in worker.output()
    end.touch()
    assert {calls.result(id) for id in long} == {"done"}
