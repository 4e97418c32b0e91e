"""What the demo promises, on the whole stack: whatever dies, each request is answered by exactly one chain."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from harness.basics import free_port, wait_until
from harness.page import Page

from stack.checkouts import FULL_DISK, engine, tools
from stack.conftest import both_kinds, containers_seldom, in_containers
from stack.driver import ANSWER_SECONDS, LONG, LOOK_SECONDS, PROCESSES, Answer, Stack, new_id, read_until, workers
from worker.logs import MAX_FILE_BYTES

WAITING = 512
"""The number of requests that foo keeps waiting at the same time."""


def assert_answered(stack: Stack, answer: Answer, id: str) -> None:
    """Check success, and that baz, which is called only after bar, ran once for all runs of bar and foo."""
    assert answer == Answer(200, id, 3)
    assert stack.runs("baz", id) == 1


def wait_until_run(stack: Stack, service: str, id: str) -> None:
    wait_until(lambda: stack.runs(service, id), f"{service} has run", every=LOOK_SECONDS)


def start_chain(stack: Stack, **body: float) -> tuple[str, Future[Answer]]:
    """Return a request in flight: baz has run, bar has not answered yet."""
    id = new_id()
    caller = stack.post_in_background(id, body)
    wait_until_run(stack, "baz", id)
    return id, caller


@pytest.mark.parametrize(
    ("env", "length"),
    [("A=1", ""), ("A=1", "--pause 0.5"), ("A=1", "--running 0.5"), ("LD_PRELOAD=/nowhere.so", "")],
    ids=["at once", "after a pause", "after work", "although every program complains of a library that is not there"],
)
def test_trigger_prints_the_answer(stack: Stack, env: str, length: str) -> None:
    done = stack.run("env", env, "scripts/trigger.sh", "--id", id := new_id(), *length.split())
    assert (done.returncode, done.stdout) == (0, f'{{"id":"{id}","message":3}}\n')
    assert "HTTP 200 after" in done.stderr


def test_trigger_does_not_wait_if_told_so(stack: Stack) -> None:
    done = stack.run("scripts/trigger.sh", "--id", id := new_id(), "--pause", "1", "--async")
    assert (done.returncode, done.stdout) == (0, f'{{"id":"{id}","state":"pending"}}\n')
    assert f"curl http://127.0.0.1:{stack.foo_port}/foo/{id}" in done.stderr
    wait_until(lambda: stack.look_up(id) == Answer(200, id, 3, "resolved"), "the chain is done")


def test_trigger_says_how_to_get_an_answer_it_did_not_wait_for(stack: Stack) -> None:
    done = stack.run("scripts/trigger.sh", "--pause", "2", "--max-time", "0.5")
    assert (done.returncode, done.stdout) == (1, "")
    id = done.stderr.split("--id ")[1].strip()
    assert_answered(stack, stack.post(id), id)


@pytest.mark.parametrize("variant", ["--pause", "--running"])
@both_kinds
def test_crash_bar(stack: Stack, variant: str) -> None:
    done = stack.crash(f"scripts/crash-bar.sh {variant} 3 --down 1")
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in (
        "bar is killed",
        '"state":"pending"',
        "bar is started again",
        '"message":3',
        "baz ran exactly once",
        "✔ baz",
        "result: 3",
    ):
        assert expected in done.stdout


def test_a_signal_to_all_that_runs_does_not_change_the_verdict_once_it_is_printed(stack: Stack, tmp_path: Path) -> None:
    """As when a terminal is closed, or `timeout` ends the script: here while it removes its files."""
    remove = tmp_path / "rm"
    remove.write_text(f'#!/bin/bash -p\nkill -TERM 0\nsleep 1\nexec {shutil.which("rm")} "$@"\n')
    remove.chmod(0o755)
    path = shlex.quote(f"{tmp_path}:{os.environ['PATH']}")
    done = stack.crash(f"env PATH={path} scripts/crash-bar.sh --pause 3 --down 1")

    assert "baz ran exactly once" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_crash_bar_can_leave_bar_dead(stack: Stack) -> None:
    stack.disturbed = True
    done = stack.crash("scripts/crash-bar.sh --pause 3 --keep-down")
    assert done.returncode == 0, done.stdout + done.stderr
    id = done.stdout.split("--id ")[1].split()[0]
    assert stack.look_up(id) == Answer(200, id, None, "pending")
    stack.start("bar")
    assert_answered(stack, stack.post(id), id)


def test_crash_bar_says_what_is_missing(stack: Stack) -> None:
    stack.kill("baz")
    done = stack.run("scripts/crash-bar.sh")
    assert done.returncode == 1
    assert done.stderr == "crash-bar.sh: baz is not running; scripts/up.sh starts it.\n"


@pytest.mark.parametrize(("pause", "reason"), [("0.001", "a longer --pause"), ("99999", "an answer already, HTTP 400")])
def test_crash_bar_says_at_once_why_it_cannot_go_on(stack: Stack, pause: str, reason: str) -> None:
    done = stack.run("scripts/crash-bar.sh", "--pause", pause)
    assert done.returncode == 1
    assert reason in done.stderr


@both_kinds
def test_all_services_are_killed_at_once(stack: Stack) -> None:
    id, _ = start_chain(stack, pause=LONG)
    for service in ("foo", "bar", "baz", "resonate-server"):
        stack.kill(service)
    stack.restore()
    stack.end_sleep(id)
    assert_answered(stack, stack.post(id), id)


def test_bar_is_down_from_the_start(stack: Stack) -> None:
    stack.down()
    stack.start("resonate-server", "baz", "foo")
    wait_until(stack.is_healthy, "foo is up")
    id = new_id()
    caller = stack.post_in_background(id)
    wait_until_run(stack, "foo", id)
    assert stack.look_up(id) == Answer(200, id, None, "pending")
    stack.start("bar")
    assert_answered(stack, caller.result(ANSWER_SECONDS), id)


@both_kinds
def test_a_pending_chain_survives_down_and_up(stack: Stack, tmp_path: Path) -> None:
    id = new_id()
    assert stack.post(id, {"pause": LONG}, wait=False) == Answer(202, id, None, "pending")
    wait_until_run(stack, "baz", id)
    stack.down()
    assert not stack.is_healthy()
    logs_survive = stack.kind == "processes"  # containers take their logs with them
    path = os.environ["PATH"] if stack.kind == "containers" else tools(tmp_path / "tools", docker=engine())
    done = stack.run("env", f"PATH={path}", "scripts/up.sh")
    assert done.returncode == 0, done.stderr
    reason = "a Docker engine answers" if stack.kind == "containers" else "that is how it ran last time"
    assert f"as {stack.kind}: {reason}" in done.stderr, "the kind that has the requests, even if an engine answers"
    assert ("/metrics" if logs_survive else "not published") in done.stderr
    stack.end_sleep(id)
    assert stack.post(id) == Answer(200, id, 3)
    assert stack.runs("baz", id) == (1 if logs_survive else 0)


def test_up_interrupted_says_what_becomes_of_what_it_has_started(stack: Stack) -> None:
    stack.down()
    up = stack.begin("scripts/up.sh", "--processes")
    read_until(up.stderr, "starting the processes")
    os.killpg(up.pid, signal.SIGINT)
    _, said = up.communicate(timeout=ANSWER_SECONDS)

    assert "Traceback" not in said
    if up.returncode != 0:  # else it came up before the signal
        assert up.returncode in (130, -signal.SIGINT)
        assert "interrupted. Services already started keep running" in said


def test_trigger_says_that_it_has_sent_nothing_if_it_cannot_store_the_answer(stack: Stack) -> None:
    done = stack.run("env", "TMPDIR=/nowhere", "scripts/trigger.sh")

    assert done.returncode == 1
    assert "no request was sent: cannot create a file for its answer in /nowhere." in done.stderr


@pytest.mark.parametrize(
    ("command", "number", "words"),
    [
        ("scripts/trigger.sh --pause 600", signal.SIGTERM, {"--output"}),
        ("scripts/logs.sh -f bar", signal.SIGHUP, {"+1", "logs"}),
        ("scripts/watch.sh", signal.SIGTERM, {"--watch"}),
    ],
)
@containers_seldom
def test_a_script_told_to_end_leaves_nothing_running(
    stack: Stack, command: str, number: signal.Signals, words: set[str]
) -> None:
    """The signal goes to the script alone, as `kill` sends it, not to its child processes. Of these, the ones that wait
    for what is to come have one of the words as an argument."""
    stack.post(new_id(), {"pause": LONG}, wait=False)
    script = stack.begin(*command.split())

    def programs() -> list[psutil.Process]:
        """The script may have become one itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            every = [psutil.Process(script.pid), *psutil.Process(script.pid).children(recursive=True)]
            return [each for each in every if words.intersection(each.cmdline())]
        return []

    waiting = wait_until(programs, "it waits")
    script.send_signal(number)
    script.wait(timeout=ANSWER_SECONDS)

    _, left = psutil.wait_procs(waiting, timeout=10)
    assert left == []


def test_two_scripts_that_start_the_same_process_start_one(stack: Stack) -> None:
    stack.kill("bar")
    scripts = [stack.begin(*PROCESSES, "start", "bar") for _ in range(4)]
    for script in scripts:
        script.communicate(timeout=ANSWER_SECONDS)

    assert [script.returncode for script in scripts] == [0] * 4
    assert stack.instances("bar") == ["bar"]


def test_a_full_disk_leaves_the_settings_of_a_running_stack_as_they_were(stack: Stack) -> None:
    settings = stack.folder / "run/settings"
    before = settings.read_text()
    done = stack.run("bash", "-c", f'{FULL_DISK}; exec "$@"', "full", *PROCESSES, "up", "bar")

    assert (done.returncode, settings.read_text()) == (1, before)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("up bar: ")


@pytest.mark.long
@in_containers
def test_the_worker_of_an_example_is_no_instance_of_bar(stack: Stack) -> None:
    """It runs in a container of bar's image."""
    stack.disturbed = True  # what was frozen counts as unhealthy until its next health check
    example = stack.begin("scripts/example.sh", "approval", "--id", id := new_id())
    wait_until(lambda: stack.runs("bar", id) or "approval" in stack.log("bar"), "the example runs", every=LOOK_SECONDS)
    stack.up()
    bars = stack.succeed("bash", "-c", ". scripts/lib.sh; containers of bar").split()
    crash = stack.crash("scripts/crash.sh bar --freeze --for 4")
    lives = example.poll() is None
    example.terminate()
    example.communicate(timeout=ANSWER_SECONDS)

    assert len(bars) == 1, "up.sh starts no second bar for it"
    assert crash.returncode == 0, crash.stdout + crash.stderr
    assert lives, "crash.sh removes the second bar alone"


@containers_seldom
def test_three_bars_share_the_work_and_one_may_die(stack: Stack) -> None:
    ids = [new_id() for _ in range(12)]
    with three_bars(stack) as kill_one:
        callers = [stack.post_in_background(id, {"pause": LONG}) for id in ids]
        for id in ids:
            wait_until_run(stack, "baz", id)
        kill_one()
        for id in ids:
            stack.end_sleep(id)
        for id, caller in zip(ids, callers, strict=True):
            assert_answered(stack, caller.result(ANSWER_SECONDS), id)
        if stack.kind == "containers":
            stack.up()
            assert len(stack.compose("ps", "--quiet", "bar").split()) == 3, "up.sh starts what is missing"


@contextlib.contextmanager
def three_bars(stack: Stack) -> Iterator[Callable[[], object]]:
    """Scale bar to 3; return a function that kills one of them."""
    stack.disturbed = True
    if stack.kind == "containers":
        stack.compose("up", "--detach", "--no-build", "--no-recreate", "--wait", "--scale", "bar=3")
        yield lambda: stack.succeed("docker", "kill", stack.compose("ps", "--quiet", "bar").split()[0])
        return
    more = ("bar-2", "bar-3")
    stack.succeed(*PROCESSES, "start", *more)
    try:
        wait_until(lambda: stack.run(*PROCESSES, "healthy", *more).returncode == 0, "all are up", every=LOOK_SECONDS)
        yield lambda: stack.succeed(*PROCESSES, "kill", "bar")
    finally:
        stack.succeed(*PROCESSES, "remove", *more)


@in_containers
def test_down_is_quick_because_all_end_on_sigterm(stack: Stack) -> None:
    """`bench start` measures how quick."""
    stack.post(id := new_id(), {"pause": LONG}, wait=False)
    wait_until_run(stack, "baz", id)
    stack.disturbed = True
    stack.compose("stop", "--timeout", "60")
    states = stack.compose("ps", "--all", "--format", "{{.Service}} {{.ExitCode}}").splitlines()
    assert sorted(states) == ["bar 0", "baz 0", "foo 0", "resonate-server 0"]


@containers_seldom
def test_up_brings_back_a_frozen_service_and_leaves_the_others_alone(stack: Stack) -> None:
    id, caller = start_chain(stack, pause=LONG)
    stack.act("freeze", "bar")
    stack.up()
    stack.end_sleep(id)
    assert_answered(stack, caller.result(ANSWER_SECONDS), id)
    assert stack.runs("foo", id) + stack.runs("bar", id) <= 5, "nothing was started anew"


@containers_seldom
def test_up_with_other_settings_reports_at_once_those_of_the_running_stack(stack: Stack) -> None:
    names = ("FOO_PORT", "RESONATE_PORT", "LEASE_SECONDS", "DEMO_FAULTS", "RESONATE_TOKEN")
    other = [f"{name}={0 if name == 'DEMO_FAULTS' else free_port()}" for name in names]
    done = stack.run("env", *other, "scripts/up.sh")

    assert done.returncode == 1
    assert f"running with FOO_PORT={stack.foo_port} RESONATE_PORT={stack.server_port} LEASE_SECONDS=" in done.stderr
    assert f"another value of {' '.join(names)}." in done.stderr
    assert "--recreate" in done.stderr
    assert "Starting the stack" not in done.stderr, "it waits for nothing"
    assert not stack.token or stack.token not in done.stderr
    stack.assert_whole()


@containers_seldom
def test_up_recreates_with_other_settings_if_told_so(stack: Stack) -> None:
    """One of them takes the faults off the page: they are neither offered nor done."""
    stack.disturbed = True
    kind = "--docker" if stack.kind == "containers" else "--processes"
    id = new_id()
    assert stack.post(id, {"pause": LONG}, wait=False).status == 202
    try:
        stack.succeed("env", "LEASE_SECONDS=5", "DEMO_FAULTS=0", "scripts/up.sh", kind, "--recreate")
        lease = ". scripts/lib.sh; look_at_stack; of_stack LEASE_SECONDS"
        assert stack.succeed("bash", "-c", lease) == "5\n"
        page = Page(stack.server_port, stack.token)
        assert [action for action in page.get("/ui/api/actions").json["actions"] if action["workers"] is not None] == []
        [bar] = workers(stack, "service-bar")
        assert page.act(json.dumps({"worker": bar}).encode(), "kill").status == 400
        assert workers(stack, "service-bar") == [bar]
        stack.end_sleep(id)
        assert stack.post(id) == Answer(200, id, 3), "what was pending went on"
    finally:
        stack.succeed("scripts/up.sh", kind, "--recreate")


@pytest.mark.long
def test_up_waits_for_the_port_that_a_killed_foo_still_holds(stack: Stack) -> None:
    """As with `kill -9`: its child still listens while it notifies all waiting clients. A container dies as a whole."""
    stack.disturbed = True
    listed = stack.succeed("bash", "-c", ". scripts/lib.sh; processes list")
    foo = os.getpgid(int(re.findall(r"(\d+), foo\n", listed)[0]))
    with contextlib.ExitStack() as waiting:
        for _ in range(WAITING):
            connection = HTTPConnection("127.0.0.1", stack.foo_port, timeout=ANSWER_SECONDS)
            waiting.callback(connection.close)
            connection.request("POST", "/foo", '{"pause": 600}', {"Content-Type": "application/json"})
        os.kill(foo, signal.SIGKILL)
        stack.up()
    stack.assert_serves()


@pytest.mark.long
@in_containers
def test_up_brings_back_a_service_that_is_cut_off(stack: Stack) -> None:
    stack.act("cut_off", "bar")
    stack.up()
    stack.assert_serves()


@both_kinds
def test_logs_name_the_service(stack: Stack) -> None:
    id = new_id()
    stack.post(id)
    lines = stack.succeed("scripts/logs.sh", "bar").splitlines()
    assert all(line.startswith("bar") for line in lines)
    assert any(id in line for line in lines)


def test_a_process_keeps_its_log_small(stack: Stack) -> None:
    for service in ("foo", "bar", "baz"):
        log, copy = (stack.folder / "log" / f"{service}.{suffix}" for suffix in ("log", "log.1"))
        os.truncate(log, MAX_FILE_BYTES)
        stack.post(new_id())
        assert log.stat().st_size < MAX_FILE_BYTES <= copy.stat().st_size
        copy.unlink()  # it would take other tests long to read


@containers_seldom
def test_logs_follow_new_output(stack: Stack) -> None:
    logs = stack.begin("scripts/logs.sh", "-f", "baz")
    try:
        stack.post(id := new_id())
        read_until(logs.stdout, id)
    finally:
        os.killpg(logs.pid, signal.SIGINT)
    _, said = logs.communicate(timeout=ANSWER_SECONDS)
    assert "Terminated" not in said
