"""Random sequences of operations: determined by one seed, shortened when a comparison fails, and reported as steps."""

import os
import random
from collections.abc import Callable
from typing import Protocol

from differential.operations import BITS

SEED = int(os.environ.get("DIFFERENTIAL_SEED", random.randrange(10**6)))
"""Determines all sequences of a run."""

LENGTH = 60
"""Operations per sequence; an operation that would make no sense in its state is skipped."""

AT_MOST = 5
"""A run ends after this many times the requested steps: what has not occurred by then never will."""


class DifferError(AssertionError):
    """Carries the steps that led to a difference, and the difference."""


class Pair(Protocol):
    """Two fresh servers."""

    history: list[str]

    def step(self, number: int) -> None:
        """Run one operation on both. Raises ``AssertionError`` if they differ."""

    def close(self) -> None:
        """Called after the last step."""


def run_sequences(new_pair: Callable[[], Pair], steps: int, is_enough: Callable[[], bool]) -> None:
    """Run sequences until ``is_enough``: usually after ``steps`` steps, or a few more while rare cases are missing.

    Raises :class:`DifferError` for the first sequence that fails, shortened by leaving out steps that do not matter.
    """
    print(f"DIFFERENTIAL_SEED={SEED} repeats this run")
    rng = random.Random(SEED)
    for _ in range(AT_MOST * steps // LENGTH):
        if is_enough():
            return
        numbers = random_sequence(rng)
        try:
            run_sequence(new_pair(), numbers)
        except DifferError as error:
            raise shortened(new_pair, numbers, error) from None


def random_sequence(rng: random.Random) -> list[int]:
    return [rng.getrandbits(BITS) for _ in range(LENGTH)]


def shortened(new_pair: Callable[[], Pair], numbers: list[int], error: DifferError) -> DifferError:
    """Leave out long parts, then shorter ones, as long as the pair still differs."""
    size = len(numbers) // 2
    while size:
        at = 0
        while at < len(numbers):
            fewer = numbers[:at] + numbers[at + size :]
            try:
                run_sequence(new_pair(), fewer)
                at += size
            except DifferError as still:
                numbers, error = fewer, still
        size //= 2
    return error


def run_sequence(pair: Pair, numbers: list[int]) -> None:
    try:
        for number in numbers:
            pair.step(number)
    except AssertionError as error:
        steps = "\n  ".join(pair.history)
        raise DifferError(f"DIFFERENTIAL_SEED={SEED}, after\n  {steps}\n{error}") from error
    finally:
        pair.close()
