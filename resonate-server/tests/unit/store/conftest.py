"""The store, on a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from resonate_server.store.sqlite import Database

settings.register_profile("mutants", max_examples=10, derandomize=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """Empty."""
    store = Database(tmp_path / "state.db", "NORMAL")
    yield store
    store.close()
