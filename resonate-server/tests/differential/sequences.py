"""Random sequences of operations, decided by one seed, shortened where a comparison fails, and told as steps."""

import os
import random
from collections.abc import Callable
from typing import Protocol

from differential.operations import BITS

SEED = int(os.environ.get("DIFFERENTIAL_SEED", random.randrange(10**6)))
"""Decides all sequences of a run."""

LENGTH = 60
"""Operations per sequence; some of them are none where they would make no sense."""

AT_MOST = 5
"""Times the steps that were asked for: what has not come by then does not come."""


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
    """So many that it ``is_enough``; with ``steps`` steps it should be, and a few more where rare things are late.

    Raises :class:`DifferError` for the shortest sequence that is found by leaving out what does not matter.
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
    """Leaves out long parts, then shorter ones, as long as the pair differs without them."""
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
