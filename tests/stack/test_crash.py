"""`scripts/crash.sh`: every service, at every moment, with every fault that its kind of stack supports."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from stack.checkouts import tools
from stack.conftest import containers_seldom, in_containers
from stack.driver import ANSWER_SECONDS, END_SECONDS, Answer, Stack, read_until

CRASHES = [
    "foo --when suspended --for 3 --down 1",
    "bar --when suspended --for 2 --pause --down 1",
    "baz --when running --for 2 --down 1",
    "resonate-server --when running --for 3 --freeze",
    "resonate-server --when suspended --for 2 --down 1",
]
MORE_CRASHES = [
    "foo --when idle --down 1",
    "baz --when idle --pause --down 1",
    "resonate-server --when idle --down 1",
]
PARTITIONS = [
    "bar --when running --for 3 --down 2",
    pytest.param("foo --when suspended --for 3 --down 1", marks=pytest.mark.long),
    pytest.param("resonate-server --when suspended --for 2 --down 1", marks=pytest.mark.long),
]


def assert_ends_well(stack: Stack, arguments: str) -> str:
    done = stack.crash(f"scripts/crash.sh {arguments}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"message":3' in done.stdout
    assert "baz 1." in done.stdout
    stack.assert_serves()
    return done.stdout


@containers_seldom
@pytest.mark.parametrize("arguments", CRASHES)
def test_crash(stack: Stack, arguments: str) -> None:
    assert_ends_well(stack, arguments)


@pytest.mark.long
@pytest.mark.parametrize("arguments", MORE_CRASHES)
def test_crash_at_other_moments(stack: Stack, arguments: str) -> None:
    assert_ends_well(stack, arguments)


def test_processes_cannot_be_cut_off(stack: Stack) -> None:
    done = stack.run("scripts/crash.sh", "bar", "--partition")
    assert done.returncode == 1
    assert "--partition needs containers" in done.stderr


@in_containers
@pytest.mark.parametrize("arguments", PARTITIONS)
def test_crash_by_partition(stack: Stack, arguments: str) -> None:
    assert "connected again" in assert_ends_well(stack, arguments + " --partition")


@containers_seldom
def test_a_bar_frozen_beyond_its_lease_is_refused_when_it_comes_late(stack: Stack) -> None:
    shown = assert_ends_well(stack, "bar --freeze --for 4")
    for expected in (
        "without a sign of life: the other bar",
        "lease lost, leaving the task to others",
        "code=409",
        "(its work: 2)",
        "Counted once",
    ):
        assert expected in shown
    assert shown.index("a second bar is started") < shown.index("a caller sends"), "the request does not wait for it"
    assert (
        shown.index("without a sign of life: the other bar") < shown.index("bar is thawed") < shown.index("lease lost")
    )
    assert len(stack.instances("bar")) == 1, "the second bar is gone"


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("bar", "--kill"),
        pytest.param("resonate-server", "--kill", marks=pytest.mark.long),
        pytest.param("foo", "--pause", marks=pytest.mark.long),
    ],
)
@containers_seldom
def test_crash_interrupted_leaves_nothing_dead_or_frozen(stack: Stack, service: str, fault: str) -> None:
    crash, id = begin_crash(stack, service, fault)
    assert stack.is_complete(), "the container of crash.sh is none of the stack"
    for _ in range(10):  # an impatient user
        os.killpg(crash.pid, signal.SIGINT)
        time.sleep(0.05)
    assert_mended(stack, crash, 130, service, id)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, 143, marks=pytest.mark.long),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_crash_told_to_end_repairs_at_once_and_does_not_wait(stack: Stack, number: signal.Signals, status: int) -> None:
    """The signal goes to the script alone, as `kill` sends it, not to its child processes."""
    crash, id = begin_crash(stack, "bar", "--kill")
    crash.send_signal(number)
    assert_mended(stack, crash, status, "bar", id)


def begin_crash(stack: Stack, service: str, fault: str) -> tuple[subprocess.Popen[str], str]:
    """Start the script and return it with its request's id as soon as the fault has struck."""
    crash, shown = stack.begin_crash(f"scripts/crash.sh {service} {fault} --for 1 --down 600")
    return crash, shown.split("answer: ")[1].split()[0]


def assert_mended(stack: Stack, crash: subprocess.Popen[str], status: int, service: str, id: str) -> None:
    """It ends soon, before its fault was due to end, and leaves everything up."""
    _, said = crash.communicate(timeout=END_SECONDS)
    assert crash.returncode == status, said
    assert f"{service} has been" in said
    stack.assert_whole()
    assert stack.post(id) == Answer(200, id, 3)


@containers_seldom
def test_only_one_script_breaks_a_stack_at_a_time_and_down_ends_all_before_it_stops_anything(stack: Stack) -> None:
    """Otherwise they would start again what has been stopped, and undo each other's faults."""
    first, _ = begin_crash(stack, "bar", "--kill")
    second = stack.begin("scripts/crash.sh", "bar", "--down", "600")
    assert "waiting for it" in read_until(second.stderr, "\n")
    stack.down()
    statuses = [crash.wait(timeout=END_SECONDS) for crash in (first, second)]

    assert statuses[0] == 143
    assert statuses[1] in (1, 143, -signal.SIGTERM), "it found no stack, or was ended, too"
    assert [stack.instances(service) for service in stack.services] == [[]] * len(stack.services)


@in_containers
def test_a_container_that_was_removed_meanwhile_is_reported_once(stack: Stack) -> None:
    """As by `docker compose down`."""
    crash, _ = begin_crash(stack, "bar", "--kill")
    stack.succeed("docker", "rm", "--force", *stack._containers("--all", "--quiet", service="bar"))
    crash.send_signal(signal.SIGTERM)
    _, said = crash.communicate(timeout=END_SECONDS)

    assert "bar could not be started again: " in said
    assert said.count("No such") <= 2, said


@pytest.mark.long
@in_containers
def test_an_engine_that_dies_meanwhile_is_named_with_a_remedy(stack: Stack, tmp_path: Path) -> None:
    """From the moment of the fault, this `docker` gets no answer; crash.sh's own container has ended."""
    answer = f'[ ! -e {tmp_path}/gone ] && exec {shutil.which("docker")} "$@"; echo "error during connect" >&2; exit 1'
    path = tools(tmp_path / "tools", docker={"kill *": f"touch {tmp_path}/gone; exit 1", "*": answer})
    done = stack.crash(f"env PATH={shlex.quote(path)} scripts/crash-bar.sh --pause 3 --down 1")

    assert done.returncode == 1
    assert "crash-bar.sh: Docker has failed; see above. Whatever is broken, scripts/up.sh mends it.\n" in done.stderr
    stack.assert_whole()


@pytest.mark.long
@in_containers
def test_a_bar_can_be_frozen_again_at_once(stack: Stack) -> None:
    """At that moment Docker still considers it unhealthy."""
    for _ in range(2):
        assert_ends_well(stack, "bar --freeze --for 4 --down 6")


@containers_seldom
def test_a_script_that_nobody_reads_repairs_and_its_second_bar_does_not_outlive_it(stack: Stack) -> None:
    """As in `scripts/crash.sh bar --freeze 2>&1 | head`, or when a terminal is closed."""
    crash, id = begin_crash(stack, "bar", "--freeze")
    assert crash.stdout is not None and crash.stderr is not None
    crash.stdout.close()
    crash.stderr.close()
    status = crash.wait(timeout=ANSWER_SECONDS)
    assert len(stack.instances("bar")) == 1
    assert status == 143
    stack.assert_whole()
    assert stack.post(id) == Answer(200, id, 3)


@pytest.mark.long
@containers_seldom
def test_a_second_bar_that_just_starts_does_not_outlive_an_interrupted_script(stack: Stack) -> None:
    stack.disturbed = True
    crash = stack.begin("scripts/crash.sh", "bar", "--freeze", "--for", "20", "--down", "600")
    time.sleep(random.uniform(0.5, 2.5))
    os.killpg(crash.pid, signal.SIGINT)
    crash.communicate(timeout=ANSWER_SECONDS)
    assert crash.returncode in (130, -signal.SIGINT), "the latter on a busy machine, before it has done anything"
    assert len(stack.instances("bar")) == 1
    stack.assert_whole()


def test_a_crash_that_comes_too_late_says_which_option_helps(stack: Stack) -> None:
    done = stack.run("scripts/crash.sh", "bar", "--for", "0.001")
    assert done.returncode == 1
    assert "a longer --for" in done.stderr
