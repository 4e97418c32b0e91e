"""The whole stack with one token: it serves whoever has the token, refuses everybody else, and reveals it to nobody."""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness.basics import wait_until
from harness.page import Page
from harness.server import VERSION
from harness.services import ServiceProcess

from stack.checkouts import Checkout
from stack.conftest import containers_seldom, in_containers, run_stack
from stack.driver import SERVICES, Answer, Stack, docker_obstacle, new_id

TOKEN = f"test-{secrets.token_hex(16)}"


@pytest.fixture(scope="module")
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    yield from run_stack(Stack(request.param, TOKEN))


def ask(stack: Stack, method: str, path: str, token: str | None, body: object = None) -> int:
    """Return the status of the server's answer; ``token`` is the bearer token."""
    connection = HTTPConnection("127.0.0.1", stack.server_port, timeout=60)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def get_promise(stack: Stack, token: str | None) -> int:
    envelope = {"kind": "promise.get", "head": {"corrId": "1", "version": VERSION}, "data": {"id": "unknown"}}
    return ask(stack, "POST", "/", token, envelope)


def processes_seen(until: Callable[[], Any]) -> str:
    """Return every command line seen on this machine meanwhile, by polling."""
    seen: set[str] = set()
    while until() is None:
        seen |= {" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
        time.sleep(0.03)  # leave the machine to the processes being watched
    return "\n".join(seen)


@containers_seldom
def test_a_chain_is_served(stack: Stack) -> None:
    assert stack.post(id := new_id()) == Answer(200, id, 3)
    assert stack.look_up(id) == Answer(200, id, 3, "resolved")


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1]], ids=["none", "empty", "wrong", "cut"])
def test_the_server_refuses_a_missing_or_wrong_token(stack: Stack, token: str | None) -> None:
    assert get_promise(stack, token) == 401
    for path in ("/poll/service-bar/stranger", "/ui/api/chains", "/ui/api/events", f"/ui/api/chains?token={TOKEN}"):
        assert ask(stack, "GET", path, token) == 401


def test_the_server_serves_clients_with_the_token(stack: Stack) -> None:
    assert get_promise(stack, TOKEN) == 404
    for path in ("/poll/no-group/friend", "/ui/api/chains"):
        assert ask(stack, "GET", path, TOKEN) == 200


def test_the_page_sees_all_of_the_stack(stack: Stack) -> None:
    stack.post(id := new_id())
    with Page(stack.server_port, TOKEN).watch() as watching:
        assert {group["name"] for group in watching.hello["groups"]} >= {"service-foo", "service-bar", "service-baz"}
    assert Page(stack.server_port, TOKEN).get("/ui/api/chains").json["chains"][0]["id"] == id


@containers_seldom
def test_health_needs_no_token(stack: Stack) -> None:
    assert stack.is_whole()
    assert ask(stack, "GET", "/ready", None) == 200


@containers_seldom
def test_crash_bar_sends_it_to_the_server(stack: Stack) -> None:
    done = stack.crash("scripts/crash-bar.sh --pause 3 --down 1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "baz ran exactly once" in done.stdout
    assert "result: 3" in done.stdout, "the tree is drawn"


@pytest.mark.parametrize("fault", ["--kill --for 3 --down 1", "--freeze --for 3"])
@containers_seldom
def test_services_restarted_by_crash_have_it(stack: Stack, fault: str) -> None:
    done = stack.crash(f"scripts/crash.sh bar {fault}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_chaos_works_with_it(stack: Stack) -> None:
    done = stack.run("scripts/chaos.sh", "--chains", "5", "--seconds", "5", "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    stack.disturbed = True


@containers_seldom
def test_watch_finds_and_draws_the_newest_request(stack: Stack) -> None:
    stack.post(id := new_id())
    drawn = stack.succeed("env", "-u", "RESONATE_TOKEN", "scripts/watch.sh")
    assert id in drawn
    assert "result: 3" in drawn


@pytest.mark.long
@in_containers
def test_the_command_in_the_server_s_container_has_it(stack: Stack) -> None:
    stack.post(id := new_id())
    assert "result: 3" in stack.compose("exec", "-T", "resonate-server", "resonate", "tree", id)


@containers_seldom
def test_up_keeps_the_token_of_a_running_stack(stack: Stack) -> None:
    kind = "--processes" if stack.kind == "processes" else "--docker"
    stack.kill("bar")
    stack.succeed("env", "-u", "RESONATE_TOKEN", "scripts/up.sh", kind)
    assert get_promise(stack, None) == 401
    assert stack.post(id := new_id()) == Answer(200, id, 3)


def test_up_does_not_mix_services_of_two_tokens(stack: Stack) -> None:
    done = stack.run("env", "RESONATE_TOKEN=another", "scripts/up.sh")
    assert (done.returncode, "another value of RESONATE_TOKEN" in done.stderr) == (1, True)
    assert TOKEN not in done.stderr


@pytest.mark.parametrize("token", ["", "not-the-one"])
def test_a_worker_without_the_right_one_says_so(stack: Stack, tmp_path: Path, token: str) -> None:
    url = f"http://127.0.0.1:{stack.server_port}"
    stranger = ServiceProcess("baz", url, tmp_path / "log", RESONATE_TOKEN=token)
    try:
        wait_until(lambda: "refuses this worker" in stranger.output(), "the worker says so")
    finally:
        stranger.stop()
    assert ("it does not accept RESONATE_TOKEN" if token else "RESONATE_TOKEN is not set") in stranger.output()


@containers_seldom
def test_no_log_and_no_command_line_shows_it(stack: Stack) -> None:
    crash, _ = stack.begin_crash("scripts/crash-bar.sh --pause 3 --down 1", until="caller")
    commands = processes_seen(crash.poll)
    shown = "".join(crash.communicate())
    shown += stack.succeed("scripts/trigger.sh") + stack.succeed("scripts/watch.sh")
    shown += stack.run("scripts/up.sh", f"--{stack.kind}".replace("containers", "docker")).stderr
    assert "crash-bar.sh" in commands
    assert TOKEN not in commands
    assert "#token=" in shown
    assert TOKEN not in shown
    for service in SERVICES:
        assert TOKEN not in stack.log(service)


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


def test_up_reports_a_token_that_no_header_can_carry() -> None:
    stack = Stack("processes", "two words")
    try:
        done = stack.run("scripts/up.sh", "--processes", "--token")
        assert done.returncode == 1
        assert "RESONATE_AUTH__TOKEN: a token consists of" in done.stderr
        assert "two words" not in done.stderr
    finally:
        stack.remove()
