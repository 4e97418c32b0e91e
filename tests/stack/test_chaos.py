"""`scripts/chaos.sh`: a short run of it on both kinds of stack, and its ends."""

import os
import random
import signal

from harness.basics import wait_until
from stack.driver import Answer, Stack, new_id

CHAINS = 40
SECONDS = 20


def test_no_chain_is_lost_or_wrong_and_none_runs_too_often(stack: Stack) -> None:
    seed = random.randrange(1_000_000)
    print(f"to repeat it: scripts/chaos.sh --chains {CHAINS} --seconds {SECONDS} --seed {seed}")

    done = stack.run("scripts/chaos.sh", "--chains", str(CHAINS), "--seconds", str(SECONDS), "--seed", str(seed))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"chains: {CHAINS}, {CHAINS} answered with 3, 0 wrongly, 0 lost" in done.stdout
    assert f"seed {seed}, as {stack.kind}: all is as it should be" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.startswith(f"chaos-{seed}-")]) == CHAINS
    assert "faults: 0" not in done.stdout
    assert stack.post(id := new_id()) == Answer(200, id, 3), "all is up again"


def test_interrupted_it_leaves_nothing_dead_frozen_or_cut_off_and_shows_the_ledger_so_far(stack: Stack) -> None:
    stack.disturbed = True
    chaos = stack.begin("scripts/chaos.sh", "--chains", "100", "--seconds", "60", "--seed", "3")
    assert chaos.stderr is not None
    while " is killed" not in (line := chaos.stderr.readline()):
        assert line, "it has ended"
    os.killpg(chaos.pid, signal.SIGINT)
    ledger, said = chaos.communicate(timeout=60)

    assert chaos.returncode == 130, ledger + said
    assert "ending early" in said
    assert "open when it was ended early" in ledger
    wait_until(stack.is_healthy, "foo is up")
    assert stack.post(id := new_id()) == Answer(200, id, 3)


def test_a_function_that_ran_too_often_is_found_in_the_logs(stack: Stack) -> None:
    """The ledger is drawn up from what the services print: one line more, and the run is not as it should be."""
    seed = 4
    chaos = stack.begin("scripts/chaos.sh", "--chains", "4", "--seconds", "4", "--seed", str(seed))
    wait_until(lambda: f"promise=chaos-{seed}-" in stack.log("baz"), "baz has run")
    line = next(line for line in stack.log("baz").splitlines() if f"promise=chaos-{seed}-" in line)
    forge(stack, [line] * 10)
    ledger, said = chaos.communicate(timeout=90)

    assert chaos.returncode == 1, ledger + said
    assert "TOO OFTEN: baz ran 11 times" in ledger


def forge(stack: Stack, lines: list[str]) -> None:
    """Put lines into the log of baz, as if it had printed them."""
    text = "\n".join(lines) + "\n"
    if stack.kind == "containers":
        stack.succeed("docker", "compose", "exec", "-T", "baz", "sh", "-c", f"printf '%s' '{text}' >/proc/1/fd/1")
    else:
        with (stack.folder / "log" / "baz.log").open("a") as log:
            log.write(text)
