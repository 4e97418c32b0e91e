"""Our kernel against the official in-process server (``resonate.connections.local`` of resonate-sdk 0.8.1).

The same random operations go to both; only :mod:`differential.differences` says what may differ. To run a million
steps, or to repeat a failing run:

    DIFFERENTIAL_STEPS=1000000 python -m pytest resonate-server/tests/differential/test_official.py
    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/differential/test_official.py

If they differ, the sequence is shortened, and the failure shows it as readable steps.
"""

import os
from typing import Any

import pytest
from differential.comparison import Comparison, Tally
from differential.differences import Differs
from differential.sequences import run_sequences

STEPS = int(os.environ.get("DIFFERENTIAL_STEPS", "30_000"))
ON_POSTGRES = int(os.environ.get("DIFFERENTIAL_STEPS", "2_000"))
"""Fewer: each step reads the whole state, which takes milliseconds there."""
FEW = 3_000
"""Enough steps to find most bugs."""
RARE = 25_000
"""From this many steps on, everything must have happened at least once."""

KINDS = (
    *("promise.get", "promise.create", "promise.settle", "promise.register_listener"),
    *("task.create", "task.acquire", "task.release", "task.fulfill", "task.suspend", "task.fence", "task.heartbeat"),
)
"""All kinds that the official in-process server knows, except ``schedule.*``, which are stubs."""


@pytest.mark.parametrize("steps", [FEW, pytest.param(STEPS, marks=pytest.mark.long)], ids=["few", "many"])
def test_our_kernel_does_what_the_official_server_does(steps: int) -> None:
    tally = Tally()

    run_sequences(lambda: Comparison(tally), steps, lambda: tally.steps >= steps and not unseen(tally, steps))

    print(f"{tally.steps} steps; succeeded: {dict(tally.succeeded)}")
    print("differences met:", {difference.name: n for difference, n in tally.met.items()})
    assert tally.steps >= steps
    assert unseen(tally, steps) == [], "never succeeded, or no longer differs"


@pytest.mark.long
def test_our_kernel_does_on_postgresql_what_the_official_server_does(postgres_database: Any) -> None:
    tally = Tally()

    def fresh() -> Comparison:
        postgres_database.rollback()
        postgres_database.reset()
        postgres_database.commit()
        return Comparison(tally, postgres_database)

    run_sequences(fresh, ON_POSTGRES, lambda: tally.steps >= ON_POSTGRES)

    assert tally.steps >= ON_POSTGRES


def unseen(tally: Tally, steps: int) -> list[str]:
    """Return what a run of this many steps should have met but has not."""
    if steps < RARE:
        return []
    differences = [difference.name for difference in Differs if not tally.met[difference]]
    return [kind for kind in KINDS if not tally.succeeded[kind]] + differences
