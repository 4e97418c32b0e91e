"""The comparison with the official server catches every mutant of the kernel: with each one, it must fail."""

import random

import pytest
from differential.comparison import Comparison, Tally
from differential.sequences import DifferError, random_sequence, run_sequence
from simulation.mutants import IN_THE_KERNEL

SEQUENCES = 200


@pytest.mark.parametrize("name", IN_THE_KERNEL)
def test_the_comparison_catches_the_mutant(name: str) -> None:
    with IN_THE_KERNEL[name](), pytest.raises(DifferError):
        compare_many()


def compare_many() -> None:
    rng = random.Random(1)
    for _ in range(SEQUENCES):
        run_sequence(Comparison(Tally()), random_sequence(rng))
