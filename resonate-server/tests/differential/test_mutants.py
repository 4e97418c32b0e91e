"""The comparison with the official server notices mistakes: with each of them made on purpose, it must fail."""

import random

import pytest
from differential.comparison import Comparison, Tally
from differential.operations import BITS
from differential.sequences import LENGTH, DifferError, run_sequence
from simulation.mutants import MUTANTS, OUTSIDE_THE_KERNEL

SEQUENCES = 200


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in OUTSIDE_THE_KERNEL])
def test_the_comparison_notices(name: str) -> None:
    with MUTANTS[name](), pytest.raises(DifferError):
        compare_many()


def compare_many() -> None:
    rng = random.Random(1)
    for _ in range(SEQUENCES):
        run_sequence(Comparison(Tally()), [rng.getrandbits(BITS) for _ in range(LENGTH)])
