"""`scripts/chaos.sh`: a short run on each kind of stack, and how it ends when interrupted."""

import contextlib
import itertools
import os
import random
import re
import signal
from collections.abc import Iterator

import pytest
from harness.basics import wait_until

from chaos import plan
from chaos.stack import faults_of
from stack.conftest import both_kinds, in_containers
from stack.driver import LEASE_SECONDS, LOOK_SECONDS, SERVICES, Stack, read_until

pytestmark = [pytest.mark.long, both_kinds]

CHAINS = 40
SECONDS = 20


def test_no_chain_is_lost_or_wrong_and_none_runs_too_often(stack: Stack) -> None:
    seed = random.randrange(1_000_000)
    print(f"to repeat it: scripts/chaos.sh --chains {CHAINS} --seconds {SECONDS} --seed {seed}")

    done = stack.run("scripts/chaos.sh", "--chains", str(CHAINS), "--seconds", str(SECONDS), "--seed", str(seed))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"chains: {CHAINS}, {CHAINS} answered with 3, 0 wrongly, 0 lost" in done.stdout
    assert f"seed {seed}, as {stack.kind}: everything is as expected" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith(f"chaos-{seed}-")]) == CHAINS
    assert "faults: 0" not in done.stdout
    stack.assert_serves()


@pytest.mark.parametrize(("struck", "number"), [("killed", signal.SIGINT), ("frozen", signal.SIGTERM)])
def test_interrupted_it_leaves_nothing_struck_and_shows_the_ledger_so_far(
    stack: Stack, struck: str, number: signal.Signals
) -> None:
    assert_ends_well(stack, struck, number)


@in_containers
def test_interrupted_it_leaves_nothing_cut_off(stack: Stack) -> None:
    assert_ends_well(stack, "cut off", signal.SIGINT)


def assert_ends_well(stack: Stack, struck: str, number: signal.Signals) -> None:
    """Interrupt it as soon as a fault of this kind has struck."""
    stack.disturbed = True
    seed = seed_that_begins_with(struck, stack.kind)
    print(f"seed {seed}")
    chaos = stack.begin("scripts/chaos.sh", "--chains", "200", "--seconds", "120", "--seed", str(seed))
    read_until(chaos.stderr, f" is {struck}")
    os.killpg(chaos.pid, number)
    ledger, said = chaos.communicate(timeout=150)

    assert chaos.returncode == 130, ledger + said
    assert "ending early" in said
    assert "open when it was ended early" in ledger
    assert stack.is_whole()
    stack.disturbed = False
    stack.assert_serves()


def seed_that_begins_with(struck: str, kind: str) -> int:
    """Return a random seed whose first wave of faults includes that fault."""

    def begins_with_it(seed: int) -> bool:
        wave = next(plan.waves(seed, SERVICES, faults_of(kind), LEASE_SECONDS))
        return any(strike.kind.struck == struck for strike in wave.strikes)

    return next(filter(begins_with_it, itertools.count(random.randrange(1_000_000))))


def test_a_function_that_ran_too_often_is_found_in_the_logs(stack: Stack) -> None:
    """The ledger counts the lines that services print, so additional lines must make the run fail.

    The run is ended once the lines are there, so they are in time, and its faults cannot explain as many as ten.
    """
    seed = random.randrange(1_000_000)
    chaos = stack.begin("scripts/chaos.sh", "--chains", "100", "--seconds", "60", "--seed", str(seed))
    mark = f"running function baz  promise=chaos-{seed}-"
    wait_until(lambda: mark in stack.log("baz"), "baz has run", every=LOOK_SECONDS)
    line = next(line for line in stack.log("baz").splitlines() if mark in line)
    with another_baz_that_printed(stack, [line] * 10):
        os.killpg(chaos.pid, signal.SIGINT)
        ledger, said = chaos.communicate(timeout=120)

    assert chaos.returncode == 1, ledger + said
    assert (found := re.search(r"TOO OFTEN: baz ran (\d+) times", ledger)), ledger
    assert int(found[1]) >= 11


@contextlib.contextmanager
def another_baz_that_printed(stack: Stack, lines: list[str]) -> Iterator[None]:
    """Add an instance whose log counts as baz's, but which started too late for chaos.sh to strike it."""
    text = "\n".join(lines)
    if stack.kind == "containers":
        name = f"{stack.project}-another-baz"
        as_baz = ("--label", "com.docker.compose.oneoff=False", "--entrypoint", "echo", f"{stack.project}-baz")
        stack.succeed("docker", "run", "--name", name, *as_baz, text)  # other labels are those of the image
        try:
            yield
        finally:
            stack.succeed("docker", "rm", "--force", name)
    else:
        log = stack.folder / "log" / "baz-2.log"
        log.write_text(text + "\n")
        try:
            yield
        finally:
            log.unlink()
