"""The store, on a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resonate_server.store import Store
from resonate_server.store.sqlite import SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Empty."""
    store = SQLiteStore(tmp_path / "state.db", "NORMAL")
    yield store
    store.close()
