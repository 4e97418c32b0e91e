"""The stores: SQLite's, on a file, and PostgreSQL's, on a server of the tests' own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from resonate_server.store.sqlite import Database

settings.register_profile("mutants", max_examples=10, derandomize=True)


SELDOM = ("TestUndo", "TestRoots", "TestSearchTasks", "TestOwed", "TestSizes")
"""What PostgreSQL's plans are tested by with the others, not each time: there is little in it that only they do."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "[postgres" in item.nodeid and any(f"::{name}::" in item.nodeid for name in SELDOM):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Database]:
    """Empty."""
    store = Database(tmp_path / "state.db", "NORMAL")
    yield store
    store.close()


@pytest.fixture
def store(sqlite_store: Database) -> Database:
    """Of tests that are about SQLite."""
    return sqlite_store


@pytest.fixture(params=["sqlite", "postgres"])
def each_store(request: pytest.FixtureRequest) -> Any:
    """Empty. One after the other, for tests of what both promise."""
    return request.getfixturevalue(f"{request.param}_store")
