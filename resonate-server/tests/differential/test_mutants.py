"""The comparison with the official server catches every mutant of the kernel: with each one, it must fail."""

import random

import pytest
from differential.comparison import Comparison, Tally
from differential.sequences import DifferError, random_sequence, run_sequence, run_sequences
from simulation.mutants import MUTANTS, OUTSIDE_THE_KERNEL

SEQUENCES = 200


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in OUTSIDE_THE_KERNEL])
def test_the_comparison_catches_the_mutant(name: str) -> None:
    with MUTANTS[name](), pytest.raises(DifferError):
        compare_many()


def compare_many() -> None:
    rng = random.Random(1)
    for _ in range(SEQUENCES):
        run_sequence(Comparison(Tally()), random_sequence(rng))


class Picky:
    """Fails once a number ending in 3 is followed by one ending in 7."""

    def __init__(self) -> None:
        self.history: list[str] = []

    def step(self, number: int) -> None:
        if number % 10 in (3, 7):
            self.history.append(str(number % 10))
        assert "3 7" not in " ".join(self.history)

    def close(self) -> None:
        pass


def test_a_difference_is_reported_with_the_fewest_steps_that_lead_to_it() -> None:
    with pytest.raises(DifferError) as told:
        run_sequences(Picky, 600, lambda: False)
    assert "after\n  3\n  7\n" in str(told.value)
