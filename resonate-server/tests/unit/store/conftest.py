"""The two stores under one contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resonate_server.store import Store
from resonate_server.store.memory import MemoryStore
from resonate_server.store.sqlite import SQLiteStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    store: Store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "state.db", "NORMAL")
    yield store
    store.close()
