"""``resonate report`` on a real server, with the logs of workers on standard input."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result
from harness.server import Client, ServerProcess
from integration.calls import create, resonate, settle
from integration.servers import Start, server_with_a_clock_off_by

from resonate_server.client.server_connection import CallFailed
from resonate_server.client.values import now_ms

type Run = Callable[..., Result]


@pytest.fixture
def root(client: Client, id: str) -> str:
    return chain(client, id)


def chain(client: Client, id: str) -> str:
    """A finished chain: foo called baz; they returned 3 and 1."""
    create(client, id, "foo", "service-foo")
    settle(client, create(client, f"{id}.1", "baz", "service-baz"), value=1)
    settle(client, id)
    return id


def logs_of(root: str) -> str:
    """Return the workers' logs of a chain in which each function ran once."""
    return "".join(
        f"2026-11-25T20:49:43.07{number}+00:00 {what} function {function}  promise={id}  attempt=1{how}\n"
        for number, (function, id) in enumerate((("foo", root), ("baz", f"{root}.1")))
        for what, how in (("running", ""), ("ended", "  seconds=0.001  result: 1"))
    )


def test_a_chain_without_faults(root: str, run: Run) -> None:
    result = run(f"report {root}", logs=logs_of(root))
    assert result.exit_code == 0
    assert "Runs of each function, counted in the logs: foo 1, baz 1.\n" in result.stdout
    assert result.stdout.endswith("\nThe answer is 3, and baz ran exactly once.\n")


def test_a_fault_is_reported_with_what_only_the_caller_knows(root: str, run: Run) -> None:
    now = now_ms()
    times = f"--sent {now - 7_000} --answered {now + 1_000} --struck-at {now - 5_000} --over-at {now}"
    fault = "--fault kill --struck baz --group service-baz"
    line = f'report {root} --expect 3 --answer {{"id":"x","message":3}} {times} {fault}'
    result = run(line, logs=logs_of(root))
    assert result.exit_code == 0, result.output
    assert "baz was killed 2.0 s after the request was sent, and started again 5.0 s later." in result.stdout
    assert "The crash cost 8.0" in result.stdout


def test_the_clock_of_the_server_may_differ_from_all_others(start: Start, id: str) -> None:
    server = start(program=server_with_a_clock_off_by(-1))
    root = chain(server.client(), id)
    server.client().create(f"{root}.2", timer="true", origin=root, parent=root)
    sent = now_ms()
    times = f"--sent {sent} --answered {sent + 9_000} --takes 5s --struck-at {sent + 2_000} --over-at {sent + 7_000}"
    line = f"report {root} --fault kill --struck baz --group service-baz {times}"
    result = resonate(server.url, line, logs=logs_of(root))

    assert result.exit_code == 0, result.output
    assert re.search(r"The crash cost [34]\.\d+ s", result.stdout), result.stdout


@pytest.mark.parametrize(
    "answer", ["", "3", '"3"', "no JSON", '{"id": "x"}', '{"message": 4}', "[" * 100_000, "\udcff"]
)
def test_the_answer_the_caller_got_counts_not_the_one_the_server_has(root: str, run: Run, answer: str) -> None:
    result = run(f"report {root} --expect 3", "--answer", answer, logs=logs_of(root))
    assert result.exit_code == (0 if answer == "3" else 1)
    assert ("Something went wrong: the answer should be 3" in result.stdout) == (answer != "3")


@pytest.mark.parametrize("expected", ["three", "\udcff"])
def test_an_expected_answer_is_json(root: str, run: Run, expected: str) -> None:
    result = run(f"report {root} --expect {expected}", logs=logs_of(root))
    assert (result.exit_code, "--expect is not JSON" in result.stderr) == (2, True), result.stderr


def test_a_chain_that_is_pending_cannot_be_judged(client: Client, run: Run, id: str) -> None:
    create(client, id, "foo")
    result = run(f"report {id}", logs=logs_of(id))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {id} is still pending: there is nothing to judge yet\n"


def test_with_patience_it_waits_for_a_server_that_was_struck(
    start: Start, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start("state.sqlite")
    chain(server.client(), id)
    server.kill()

    def start_it_after_the_first_failure(_: CallFailed) -> bool:
        server.start()
        return True

    monkeypatch.setattr(CallFailed, "is_transient", property(start_it_after_the_first_failure))
    result = resonate(server.url, f"report {id} --patience 60s", logs=logs_of(id))

    assert result.exit_code == 0, result.output
    assert "foo 1, baz 1" in result.stdout


def test_without_standard_input_it_says_where_the_logs_come_from(root: str, server: ServerProcess) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin = None; from resonate_server.client import main; main()"]
    done = subprocess.run([*command, "report", "-S", server.url, root], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "scripts/logs.sh | resonate report" in done.stderr
