"""`scripts/crash.sh`: every service, at every moment, by every fault that its kind of stack knows."""

import os
import signal
import subprocess

import pytest
from harness.basics import wait_until
from stack.driver import ANSWER_SECONDS, SERVICES, Answer, Stack, new_id

CRASHES = [
    "foo --when idle --down 1",
    "foo --when suspended --for 3 --down 1",
    "foo --when running --for 2 --pause --down 1",
    "bar --when idle --down 1",
    "bar --when suspended --for 2 --pause --down 1",
    "bar --when running --for 2 --down 1",
    "baz --when idle --pause --down 1",
    "baz --when running --for 2 --down 1",
    "resonate-server --when idle --down 1",
    "resonate-server --when suspended --for 2 --down 1",
    "resonate-server --when running --for 3 --pause --down 1",
    "resonate-server --when running --for 3 --freeze",
]
PARTITIONS = [
    "foo --when suspended --for 3 --down 1",
    "bar --when running --for 3 --down 2",
    "baz --when idle --down 1",
    "resonate-server --when suspended --for 2 --down 1",
]


def assert_ends_well(stack: Stack, arguments: str) -> str:
    done = stack.run("scripts/crash.sh", *arguments.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"message":3' in done.stdout
    assert "baz 1." in done.stdout
    return done.stdout


@pytest.mark.parametrize("arguments", CRASHES)
def test_crash(stack: Stack, arguments: str) -> None:
    assert_ends_well(stack, arguments)
    assert stack.post(id := new_id()) == Answer(200, id, 3), "all is up again"


@pytest.mark.parametrize("arguments", PARTITIONS)
def test_crash_by_partition(stack: Stack, arguments: str) -> None:
    if stack.kind == "processes":
        done = stack.run("scripts/crash.sh", *arguments.split(), "--partition")
        assert done.returncode == 1
        assert "needs the stack as containers" in done.stderr
        return
    assert "connected again" in assert_ends_well(stack, arguments + " --partition")
    assert stack.post(id := new_id()) == Answer(200, id, 3), "all is up again"


def test_a_bar_frozen_beyond_its_lease_is_refused_when_it_comes_late(stack: Stack) -> None:
    shown = assert_ends_well(stack, "bar --freeze --for 4")
    for expected in (
        "the other bar does the work",
        "lease lost, leaving the task to others",
        "code=409",
        "(its work: 2)",
        "Counted once",
    ):
        assert expected in shown
    assert shown.index("the other bar does the work") < shown.index("bar is thawed") < shown.index("lease lost")
    assert instances(stack, "bar") == 1, "the second bar is gone"


@pytest.mark.parametrize("fault", ["--kill", "--pause"])
@pytest.mark.parametrize("service", SERVICES)
def test_crash_interrupted_leaves_nothing_dead_or_frozen(stack: Stack, service: str, fault: str) -> None:
    stack.disturbed = True
    crash = stack.begin("scripts/crash.sh", service, fault, "--for", "1", "--down", "60")
    shown = read_until(crash, f"{service} is ")
    os.killpg(crash.pid, signal.SIGINT)
    _, said = crash.communicate(timeout=30)
    assert crash.returncode == 130, said
    assert f"{service} has been" in said
    id = shown.split("answer: ")[1].split()[0]
    wait_until(stack.is_healthy, "foo is up")
    assert stack.post(id) == Answer(200, id, 3)


def test_a_second_bar_does_not_outlive_an_interrupted_script(stack: Stack) -> None:
    stack.disturbed = True
    crash = stack.begin("scripts/crash.sh", "bar", "--freeze", "--for", "3", "--down", "60")
    read_until(crash, "bar is frozen")
    os.killpg(crash.pid, signal.SIGINT)
    crash.communicate(timeout=ANSWER_SECONDS)
    assert crash.returncode == 130
    assert instances(stack, "bar") == 1
    assert stack.post(id := new_id()) == Answer(200, id, 3)


def test_a_crash_that_comes_too_late_says_which_option_helps(stack: Stack) -> None:
    done = stack.run("scripts/crash.sh", "bar", "--for", "0.001", seconds=20)
    assert done.returncode == 1
    assert "a longer --for" in done.stderr


def read_until(script: subprocess.Popen[str], text: str) -> str:
    """What it has printed, up to the line with that text."""
    assert script.stdout is not None
    shown = ""
    while text not in shown:
        line = script.stdout.readline()
        assert line, shown
        shown += line
    return shown


def instances(stack: Stack, service: str) -> int:
    shown = stack.succeed("bash", "-c", '. scripts/lib.sh; instances "$@"', "instances", stack.kind, service)
    return len(shown.split())
