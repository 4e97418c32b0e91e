"""PostgreSQL for the tests of several folders: one server for each of pytest's processes that needs it."""

from collections.abc import Iterator
from typing import Any

import pytest
from harness.postgres import PostgresServer


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
def postgres_store(postgres_database: Any) -> Iterator[Any]:
    """Empty."""
    postgres_database.rollback()
    postgres_database.reset()
    postgres_database.commit()
    yield postgres_database
    postgres_database.rollback()
