"""The model catches every mutant: with each one, it must fail to explain some answer."""

import os
import random
import sys
from pathlib import Path

import pytest
from differential.kernel import Kernel
from differential.sequences import DifferError, random_sequence, run_sequence
from harness.server import ServerProcess
from machine.history import Unordered, check_histories
from machine.sequence import Seen, Sequence
from simulation.mutants import IN_THE_KERNEL, MUTANTS

from resonate_server.kernel.model import Rules

SEQUENCES = 500
HISTORIES = 50
MESSAGES_ONLY = {
    "listeners_are_not_told",
    "a_pending_task_is_not_sent_again",
    "a_pending_task_has_no_timer",
}
"""Mutants that no answer reveals."""


@pytest.mark.parametrize("name", [name for name in IN_THE_KERNEL if name not in MESSAGES_ONLY])
def test_one_client_catches_the_mutant(name: str) -> None:
    with MUTANTS[name](), pytest.raises(DifferError):
        run_many_sequences()


def run_many_sequences() -> None:
    kernel, seen, rng = Kernel(Rules()), Seen(), random.Random(1)
    for _ in range(SEQUENCES):
        sequence = Sequence(lambda bodies: [kernel.call(body) for body in bodies], seen)
        run_sequence(sequence, random_sequence(rng))


@pytest.mark.parametrize("name", ["requests_in_one_transaction_do_not_see_each_other", "a_fence_needs_no_lease"])
def test_concurrent_clients_catch_the_mutant(name: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server.log", RESONATE_DEBUG="true", PYTHONPATH=os.pathsep.join(sys.path))
    server.command[1:3] = ["-m", "simulation.mutants", name]
    server.start()
    try:
        with pytest.raises(Unordered):
            check_histories([server.port], HISTORIES, seed=1)
    finally:
        server.stop()
