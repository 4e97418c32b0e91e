"""The whole stack with one token: it serves whoever has the token, refuses everybody else, and reveals it to nobody."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from harness.basics import docker_obstacle

from stack.checkouts import Checkout
from stack.conftest import require_docker
from stack.driver import SERVICES, TOKEN, Answer, Stack, ask_server, new_id


def processes_seen(until: Callable[[], Any]) -> str:
    """Return every command line seen on this machine meanwhile, by polling."""
    seen: set[bytes] = set()
    while until() is None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.add(process.read_bytes())
        time.sleep(0.05)  # leave the machine to the processes being watched
    return b"\n".join(seen).replace(b"\0", b" ").decode(errors="replace")


def test_up_keeps_the_token_of_a_running_stack(stack: Stack) -> None:
    stack.kill("bar")
    stack.succeed("env", "-u", "RESONATE_TOKEN", "scripts/up.sh", "--processes")
    assert ask_server(stack.server_port, "") == 401
    assert stack.post(id := new_id()) == Answer(200, id, 3)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="command lines are looked for in /proc")
def test_no_log_and_no_command_line_shows_it(stack: Stack) -> None:
    assert_unseen(stack)


@pytest.mark.long
def test_containers_have_it_and_do_not_show_it() -> None:
    require_docker()
    stack = Stack("containers", TOKEN)
    try:
        stack.up()
        assert [ask_server(stack.server_port, token) for token in ("", TOKEN)] == [401, 200]
        assert_unseen(stack)
        assert "result: 3" in stack.compose("exec", "-T", "resonate-server", "resonate", "tree", stack.newest())
    finally:
        stack.remove()


def assert_unseen(stack: Stack) -> None:
    """Let the scripts use the token; look at everything that they and the services print, and at all command lines."""
    crash, _ = stack.begin_crash("scripts/crash-bar.sh --pause 3 --down 1", until="caller")
    commands = processes_seen(crash.poll)
    shown = "".join(crash.communicate())
    assert crash.returncode == 0, shown
    shown += stack.succeed("scripts/trigger.sh") + stack.succeed("env", "-u", "RESONATE_TOKEN", "scripts/watch.sh")
    shown += stack.run("scripts/up.sh", f"--{stack.kind}".replace("containers", "docker")).stderr
    assert "crash-bar.sh" in commands
    assert stack.token not in commands
    assert "#token=" in shown
    assert stack.token not in shown
    for service in SERVICES:
        assert stack.token not in stack.log(service)


# ── up.sh --token, and .env ──


@pytest.mark.parametrize(
    "line", ["RESONATE_TOKEN=abc-1.~+/=", 'RESONATE_TOKEN="abc-1.~+/="', "RESONATE_TOKEN='abc-1.~+/=' # note"]
)
def test_scripts_and_compose_read_the_same_from_env(tmp_path: Path, line: str) -> None:
    checkout = Checkout.make(tmp_path).folder
    (checkout / ".env").write_text(f"OTHER=1\n{line}\n")
    script = subprocess.check_output(["bash", "-c", ". scripts/lib.sh; noted RESONATE_TOKEN"], cwd=checkout, text=True)

    assert script == "abc-1.~+/=\n"
    if docker_obstacle():
        return
    command = ["env", "-u", "RESONATE_TOKEN", "docker", "compose", "config", "--format", "json"]
    services = json.loads(subprocess.check_output(command, cwd=checkout, text=True))["services"]
    for service in SERVICES:
        assert services[service]["environment"]["RESONATE_TOKEN"] == "abc-1.~+/="
    assert services["resonate-server"]["environment"]["RESONATE_AUTH__TOKEN"] == "abc-1.~+/="
