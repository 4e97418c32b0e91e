"""Our kernel on PostgreSQL against the official in-process server: sequences as on SQLite, but fewer."""

import os
from typing import Any

import pytest
from differential.comparison import Comparison, Tally
from differential.sequences import run_sequences

STEPS = int(os.environ.get("DIFFERENTIAL_STEPS", "2_000"))
"""Each step reads the whole state, which takes milliseconds here."""


@pytest.mark.long
def test_our_kernel_does_on_postgresql_what_the_official_server_does(postgres_database: Any) -> None:
    tally = Tally()

    def fresh() -> Comparison:
        postgres_database.rollback()
        postgres_database.reset()
        postgres_database.commit()
        return Comparison(tally, postgres_database)

    run_sequences(fresh, STEPS, lambda: tally.steps >= STEPS)

    assert tally.steps >= STEPS
