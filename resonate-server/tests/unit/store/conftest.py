"""The stores: SQLite's, on a file, and PostgreSQL's, on a server of the tests' own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.postgres import PostgresServer
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


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Of a database with a schema."""
    from unit.postgres import make_schema

    server = PostgresServer(fsync="off")
    server.start()
    make_schema(server.url)
    yield server.url
    server.remove()


@pytest.fixture(scope="session")
def postgres_database(postgres_url: str) -> Iterator[Any]:
    """In the form of SQLite's: see :mod:`unit.postgres`."""
    from unit.postgres import PostgresDatabase

    database = PostgresDatabase(postgres_url)
    yield database
    database.close()


@pytest.fixture
def postgres_store(postgres_database: Any) -> Any:
    """Empty."""
    postgres_database.rollback()
    postgres_database.reset()
    postgres_database.commit()
    return postgres_database


@pytest.fixture(params=["sqlite", "postgres"])
def each_store(request: pytest.FixtureRequest) -> Any:
    """Empty. One after the other, for tests of what both promise."""
    return request.getfixturevalue(f"{request.param}_store")
