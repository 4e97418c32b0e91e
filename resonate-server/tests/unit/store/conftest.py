"""The store, on a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from resonate_server.store import Store
from resonate_server.store.sqlite import SQLiteStore

settings.register_profile("mutants", max_examples=10, derandomize=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Empty."""
    store = SQLiteStore(tmp_path / "state.db", "NORMAL")
    yield store
    store.close()
