"""``resonate tree --watch`` on a real server, with and without a terminal."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from click.testing import Result
from harness.server import FAR, Client, ServerProcess
from harness.terminal import CTRL_C, HIDE_CURSOR, SHOW_CURSOR, Terminal
from integration.calls import RESONATE, acquire, create, settle
from integration.servers import Start

IMPATIENT = "from resonate_server.client import main, tree; tree.ANSWER_S = 1; main()"
PID = "0123456789abcdef"

type Watch = Callable[..., Terminal]


@pytest.fixture
def watch(server: ServerProcess) -> Iterator[Watch]:
    """Open terminals; they are closed after the test."""
    with ExitStack() as opened:

        def open_terminal(id: str, url: str = server.url, program: str = RESONATE[-1]) -> Terminal:
            command = [*RESONATE[:-1], program, "tree", "--watch", "-S", url, "--", id]
            return opened.enter_context(Terminal(command, {}))

        yield open_terminal


# ── on a terminal ──


def test_the_tree_grows_until_its_root_is_settled(client: Client, watch: Watch, id: str) -> None:
    """Ids are shown in their own letters."""
    root = create(client, f"Käse-{id}", "foo")
    shown = watch(root)
    shown.wait_for("pending for")
    bar = create(client, f"{root}.1", "bar")
    shown.wait_for(f"└─ ● bar  {bar}")
    settle(client, bar)
    shown.wait_for(f"└─ ✔ bar  {bar}")
    settle(client, root)

    assert shown.wait() == 0
    assert f"✔ foo  {root}" in shown.frame
    assert "result: 3" in shown.frame


def test_an_attempt_that_is_lost_leaves_a_gap_in_the_bar(client: Client, watch: Watch, id: str) -> None:
    acquire(client, create(client, id, "foo"))
    shown = watch(id)
    shown.wait_for(f"attempt 1 by {PID[:8]}")
    shown.wait_for("█ running")
    shown.wait_for("▚ worker gone")
    client.call("task.release", id=id, version=1)
    shown.wait_for("pending, attempt 1")
    acquire(client, id, version=1)
    shown.wait_for(f"attempt 2 by {PID[:8]}")
    settle(client, id)

    assert shown.wait() == 0
    assert re.search("█+▚+█+", shown.frame)


@pytest.mark.parametrize(
    ("state", "words", "status"),
    [
        ("resolved", "resolved in", 0),
        ("rejected", "rejected after", 1),
        ("rejected_canceled", "cancelled after", 3),
        ("rejected_timedout", "timed out after", 4),
    ],
)
def test_the_exit_status_reflects_how_the_call_ended(
    client: Client, run: Callable[..., Result], id: str, state: str, words: str, status: int
) -> None:
    create(client, id, "foo", timeout_at=1 if state == "rejected_timedout" else FAR)
    settle(client, id, "rejected" if state == "rejected_timedout" else state)
    watched = run(f"tree --watch {id}")
    assert (watched.exit_code, words in watched.stdout) == (status, True)


@pytest.mark.parametrize(
    ("end", "status"),
    [(lambda shown: shown.press(CTRL_C), 130), (lambda shown: shown.signal(signal.SIGTERM), 143)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_ended_early_it_leaves_a_clean_terminal_and_the_last_tree(
    client: Client, watch: Watch, id: str, end: Callable[[Terminal], None], status: int
) -> None:
    shown = watch(create(client, id, "foo"))
    shown.wait_for("pending for")
    assert HIDE_CURSOR in shown.raw
    end(shown)

    assert shown.wait() == status
    assert shown.raw.rindex(SHOW_CURSOR) > shown.raw.rindex(HIDE_CURSOR)
    assert shown.frame.count(id) == 1
    assert "Traceback" not in shown.raw and "Aborted" not in shown.raw


@pytest.mark.parametrize(
    ("stop", "resume", "said"),
    [
        (ServerProcess.kill, ServerProcess.start, "server away for "),
        (ServerProcess.freeze, ServerProcess.thaw, "no answer within 1 s"),
    ],
    ids=["killed", "frozen"],
)
def test_it_outlives_a_server_that_is_away(
    start: Start, watch: Watch, id: str, stop: Callable[..., None], resume: Callable[..., object], said: str
) -> None:
    server = start("db")
    shown = watch(create(server.client(), id, "foo"), server.url, IMPATIENT)
    shown.wait_for("pending for")
    stop(server)
    shown.wait_for(said)
    resume(server)
    shown.wait_for_no("server away")
    settle(server.client(), id)
    assert shown.wait() == 0


def test_a_tree_taller_than_the_terminal_shows_pending_calls_and_everything_at_the_end(
    client: Client, watch: Watch, id: str
) -> None:
    create(client, id, "foo")
    for number in range(60):
        create(client, f"{id}.{number}", f"call{number}")
    for number in range(59):
        settle(client, f"{id}.{number}")
    shown = watch(id)
    shown.wait_for("more calls")
    assert "call59" in shown.frame
    assert len(shown.frame.splitlines()) <= 40
    settle(client, id)

    assert shown.wait() == 0
    assert all(f"call{number} " in shown.frame for number in range(60))


# ── without a terminal ──


def test_without_a_terminal_the_tree_is_printed_once_at_the_end(client: Client, server: ServerProcess, id: str) -> None:
    create(client, id, "foo")
    command, env = [*RESONATE, "tree", "--watch", "-S", server.url, id], os.environ | {"PYTHONIOENCODING": "utf-8"}
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert watching.stderr is not None
    assert watching.stderr.readline() == f"waiting until {id} is settled\n"
    settle(client, id)
    out, err = watching.communicate(timeout=30)

    assert (watching.returncode, err) == (0, "")
    assert out.count(id) == 1
    assert f"✔ foo  {id}" in out
    assert "\x1b" not in out
