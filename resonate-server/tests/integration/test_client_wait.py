"""``resonate wait`` on a real server: what it waits for, what it prints, how it ends."""

import os
import pty
import signal
import subprocess
from collections.abc import Callable

import pytest
from click.testing import Result
from harness.server import Client, ServerProcess
from integration.calls import RESONATE, acquire, create, settle, step_of, suspend
from integration.servers import Start

PID = "0123456789abcdef"

type Run = Callable[..., Result]


def begin(server_url: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Start the command as a separate process; return once it says that it is waiting."""
    command = [*RESONATE, "wait", "-S", server_url, *arguments]
    env = os.environ | {"PYTHONIOENCODING": "utf-8"} | env
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith("waiting: promise ")
    return waiting


def next_line(waiting: subprocess.Popen[str]) -> str:
    assert waiting.stdout is not None
    return waiting.stdout.readline()


# ── what it waits for ──


def test_a_chain_is_followed_from_before_its_beginning_to_its_end(
    client: Client, server: ServerProcess, id: str
) -> None:
    goals = ["bar=running", "bar=suspended", "baz=settled", "settled"]
    waiting = begin(server.url, id, *[word for goal in goals for word in ("--until", goal)])
    create(client, id, "foo")
    bar, baz = create(client, f"{id}.1", "bar"), create(client, f"{id}.1.1", "baz")
    acquire(client, bar)

    assert next_line(waiting) == f"running\t1\t{PID}\t{bar}\n"
    suspend(client, bar, baz)
    assert next_line(waiting) == f"suspended\t1\t-\t{bar}\n"
    settle(client, baz)
    assert next_line(waiting) == f"settled\t0\t-\t{baz}\n"
    settle(client, id)
    assert next_line(waiting) == f"settled\t0\t-\t{id}\n"
    assert waiting.wait(30) == 0


def test_without_a_goal_it_waits_until_the_call_is_settled(client: Client, run: Run, id: str) -> None:
    settle(client, create(client, id))
    assert run(f"wait {id}").stdout == f"settled\t-\t-\t{id}\n"


def test_a_step_runs_while_its_function_does(client: Client, run: Run, id: str) -> None:
    create(client, id, "foo")
    step = step_of(client, id, "charge")
    assert run(f"wait {id} --until charge=running --timeout 0").exit_code == 4
    acquire(client, id)
    for name in ("charge", "step"):
        assert run(f"wait {id} --until {name}=running").stdout == f"running\t1\t{PID}\t{step}\n"


def test_a_server_that_goes_away_is_waited_for(start: Start, id: str) -> None:
    server = start("db")
    waiting = begin(server.url, id, "--until", "running", "--until", "settled")
    acquire(server.client(), create(server.client(), id, "foo"))
    assert next_line(waiting).startswith("running")
    server.kill()
    assert waiting.stderr is not None
    assert waiting.stderr.readline().startswith("waiting: cannot reach the server")
    server.start()
    settle(server.client(), id)
    assert waiting.wait(30) == 0


def test_on_a_terminal_the_outcome_is_a_sentence(client: Client, server: ServerProcess, id: str) -> None:
    acquire(client, create(client, id, "foo"))
    own, terminal = pty.openpty()
    subprocess.run([*RESONATE, "wait", "-S", server.url, id, "--until", "running"], stdout=terminal, check=True)
    assert os.read(own, 1_000).decode() == f"foo ({id}) is running, attempt 1, on worker {PID}\r\n"
    os.close(own)
    os.close(terminal)


# ── how it ends ──


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        pytest.param("bar=settled", "bar is settled", id="not yet"),
        pytest.param("baz=running", "baz is running", id="no such function"),
        pytest.param("suspended", "it is suspended", id="another state"),
    ],
)
def test_it_times_out(client: Client, run: Run, id: str, goal: str, reason: str) -> None:
    create(client, create(client, id, "foo") + ".1", "bar")
    result = run(f"wait {id} --until {goal} --timeout 200ms")
    assert (result.exit_code, result.stdout, result.stderr) == (4, "", f"Error: timed out before {reason}\n")


@pytest.mark.parametrize("goal", ["bar=running", "baz=settled", "running"])
def test_a_chain_that_was_settled_before_reaches_nothing_more(client: Client, run: Run, id: str, goal: str) -> None:
    settle(client, create(client, create(client, id, "foo") + ".1", "bar"))
    settle(client, id)
    result = run(f"wait {id} --until {goal}")
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"{id} was settled before" in result.stderr


@pytest.mark.parametrize("last_look_s", [0.0, 1.0])
def test_an_unknown_id_is_reported_at_once_and_at_the_end(
    run: Run, last_look_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resonate_server.client.wait.LOOK_S", last_look_s)
    result = run("wait unknown --timeout 200ms")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == (
        "waiting: promise unknown does not exist (status 404)\n"
        "Error: timed out before it is settled: promise unknown does not exist (status 404)\n"
    )


def test_the_reason_a_call_keeps_coming_back_is_reported_once_and_at_the_end(client: Client, run: Run, id: str) -> None:
    acquire(client, create(client, id, "brwe"))
    assert client.call("task.release", id=id, version=1, reason="function 'brwe' is not known").status == 200
    trouble = "brwe: given back: function 'brwe' is not known"
    assert run(f"wait {id} --timeout 500ms").stderr == (
        f"waiting: {trouble}\nError: timed out before it is settled: {trouble}\n"
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_quietly(server: ServerProcess, id: str, number: signal.Signals, status: int) -> None:
    waiting = begin(server.url, id)
    waiting.send_signal(number)
    assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode == status


# ── text from strangers ──


def test_ids_and_workers_cannot_control_the_terminal(client: Client, run: Run, id: str) -> None:
    call = create(client, f"{id} \u202e größe", "foo")
    acquire(client, call, pid="a\u202eb")
    assert run("wait --until running", call).stdout == f"running\t1\ta\\u202eb\t{id} \\u202e größe\n"
