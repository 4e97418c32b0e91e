"""The simulation catches every mutant: with each one, it must find a violation, with or without faults."""

import pytest
from simulation.mutants import MUTANTS
from simulation.world import simulate

pytestmark = pytest.mark.long

SEEDS = 200

ELSEWHERE = {
    "an_acquired_task_can_be_acquired": "no worker is ever told a version that is already claimed",
    "a_claim_does_not_forget_the_resumes": "no worker looks at resumes",
    "deadlines_are_not_noticed": "noticed, but slowly: what stays due keeps the engine busy",
    "a_pending_task_is_not_sent_again": "likewise",
    "messages_go_to_streams_that_are_gone": "what was not claimed comes again, elsewhere, within seconds",
}
"""Mutants left to other tests (the comparison with the official server, those of delivery), and why."""


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in ELSEWHERE])
def test_the_simulation_catches_the_mutant(name: str) -> None:
    with MUTANTS[name]():
        assert any(simulate(seed, faults=faults).broken for seed in range(SEEDS) for faults in (True, False))
