"""Random sequences of operations by hypothesis: drawn from one seed, shrunk where a comparison fails, told as steps."""

import os
import random
from collections.abc import Callable
from typing import Protocol

from differential.operations import BITS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

SEED = int(os.environ.get("DIFFERENTIAL_SEED", random.randrange(10**6)))
"""Decides all sequences of a run."""

LENGTH = 60
"""Operations per sequence."""

COUNTED = 0.9
"""Share of the operations that mostly are steps; hypothesis likes to draw zeros, and those are none."""

MORE = 0.2
MOST_TIMES = 20
"""What has not come by then does not come: so many times, such a share of the steps is added."""

numbers_of_a_sequence = st.lists(st.integers(0, 2**BITS - 1), min_size=LENGTH, max_size=LENGTH)


class DifferError(AssertionError):
    """The steps that led to a difference, and the difference."""


class Pair(Protocol):
    """Two fresh servers."""

    history: list[str]

    def step(self, number: int) -> None:
        """Make one operation to both. Raises ``AssertionError`` where they differ."""

    def close(self) -> None:
        """Nothing more will come."""


def run_sequences(new_pair: Callable[[], Pair], steps: int, is_enough: Callable[[], bool]) -> None:
    """About ``steps`` steps, and more where rare things have not come yet, until it ``is_enough``.

    Raises :class:`DifferError` for the shortest sequence that hypothesis can find.
    """
    print(f"DIFFERENTIAL_SEED={SEED} repeats this run")
    _run_portion(new_pair, steps, SEED)
    for times in range(MOST_TIMES):
        if is_enough():
            return
        _run_portion(new_pair, int(steps * MORE), SEED + 1 + times)


def _run_portion(new_pair: Callable[[], Pair], steps: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=int(steps / LENGTH / COUNTED) + 1,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(numbers=numbers_of_a_sequence)
    def check(numbers: list[int]) -> None:
        run_sequence(new_pair(), numbers)

    check()


def run_sequence(pair: Pair, numbers: list[int]) -> None:
    try:
        for number in numbers:
            pair.step(number)
    except AssertionError as error:
        steps = "\n  ".join(pair.history)
        raise DifferError(f"DIFFERENTIAL_SEED={SEED}, after\n  {steps}\n{error}") from error
    finally:
        pair.close()
