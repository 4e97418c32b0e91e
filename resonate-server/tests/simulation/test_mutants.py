"""The simulation notices mistakes: with each of them made on purpose, it must find something broken."""

import pytest
from simulation.mutants import MUTANTS
from simulation.world import simulate

SEEDS = 150

UNSEEN = {
    "an_acquired_task_can_be_acquired": "no worker is ever told a version that is already claimed",
    "listeners_are_not_told": "callers ask again each minute, as they must; then nothing is too late",
    "a_claim_does_not_forget_the_resumes": "no worker looks at resumes",
}
"""What cannot be seen from the outside under faults, and why. The comparison with the official server sees it."""


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in UNSEEN])
def test_the_simulation_notices(name: str) -> None:
    with MUTANTS[name]():
        assert any(simulate(seed).broken for seed in range(SEEDS))
