"""PostgreSQL fixtures shared by several test folders: one server per pytest process that needs it."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from harness.postgres import PostgresServer

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server without fsync: it loses data only if the machine crashes."""
    server = PostgresServer(fsync="off")
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a database with the schema."""
    from unit.postgres import make_schema

    make_schema(postgres.url)
    return postgres.url


@pytest.fixture
def own_postgres_url(postgres: PostgresServer) -> str:
    """The URL of an empty database for this test alone."""
    return postgres.create(f"own_{next(_numbers)}")


@pytest.fixture(scope="session")
def postgres_database(postgres_url: str) -> Iterator[Any]:
    """The database behind the interface of SQLite's: see :mod:`unit.postgres`."""
    from unit.postgres import PostgresDatabase

    database = PostgresDatabase(postgres_url)
    yield database
    database.close()


@pytest.fixture
def postgres_store(postgres_database: Any) -> Iterator[Any]:
    """The same database, emptied."""
    postgres_database.rollback()
    postgres_database.reset()
    postgres_database.commit()
    yield postgres_database
    postgres_database.rollback()
