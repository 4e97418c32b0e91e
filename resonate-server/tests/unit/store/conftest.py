"""The store, on a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resonate_server.store.sqlite import Database


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """Empty."""
    store = Database(tmp_path / "state.db", "NORMAL")
    yield store
    store.close()
