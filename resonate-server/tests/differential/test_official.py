"""Our kernel against the official in-process server (``resonate.connections.local`` of resonate-sdk 0.8.1).

Random sequences of 60 operations are made to both. A run of a million steps, or a failing run once more:

    DIFFERENTIAL_STEPS=1000000 python -m pytest resonate-server/tests/differential/test_official.py
    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/differential/test_official.py

Where they differ, hypothesis shrinks the sequence; the failure shows it as readable steps.
"""

import os
import random

from differential.comparison import Comparison, Tally
from differential.differences import Differs
from differential.operations import BITS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

STEPS = int(os.environ.get("DIFFERENTIAL_STEPS", "100_000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", random.randrange(10**6)))
LENGTH = 60
"""Operations per sequence."""
RARE = 50_000
"""From this many steps on, everything must have happened at least once."""

KINDS = [
    "promise.get",
    "promise.create",
    "promise.settle",
    "promise.register_listener",
    "task.create",
    "task.acquire",
    "task.release",
    "task.fulfill",
    "task.suspend",
    "task.fence",
    "task.heartbeat",
    "schedule.get",
    "schedule.create",
    "schedule.delete",
    "schedule.search",
]
"""All that the official in-process server knows."""

sequences = st.lists(st.integers(0, 2**BITS - 1), min_size=LENGTH, max_size=LENGTH)


class DiffersFromOfficialError(AssertionError):
    pass


def run(numbers: list[int], tally: Tally) -> None:
    """Make the operations; on a difference tell the steps that led to it."""
    comparison = Comparison(tally)
    try:
        for number in numbers:
            comparison.step(number)
    except AssertionError as error:
        steps = "\n  ".join(comparison.history)
        raise DiffersFromOfficialError(f"after\n  {steps}\n{error}") from error
    finally:
        comparison.theirs.close()


def run_many(steps: int, seed_number: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> Tally:
    """At least about ``steps`` steps in random sequences."""
    tally = Tally()

    @seed(seed_number)
    @settings(
        max_examples=-(-steps // LENGTH),
        database=None,
        deadline=None,
        phases=phases,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(numbers=sequences)
    def check(numbers: list[int]) -> None:
        run(numbers, tally)

    check()
    return tally


def test_our_kernel_does_what_the_official_server_does() -> None:
    print(f"DIFFERENTIAL_SEED={SEED} repeats this run")
    tally = run_many(STEPS, SEED)

    print(f"{tally.steps} steps; succeeded: {dict(tally.succeeded)}")
    print("differences met:", {difference.name: n for difference, n in tally.met.items()})
    assert tally.steps >= STEPS * 0.9
    if tally.steps >= RARE:
        assert [kind for kind in KINDS if not tally.succeeded[kind]] == [], "never succeeded"
        assert [difference.name for difference in Differs if not tally.met[difference]] == [], "no longer differs"
