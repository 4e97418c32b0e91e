"""PostgreSQL for the tests of several folders: one server for each of pytest's processes that needs it."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from harness.postgres import PostgresServer

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """What it has is lost with the machine, and with nothing less."""
    server = PostgresServer(fsync="off")
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """Of a database with a schema."""
    from unit.postgres import make_schema

    make_schema(postgres.url)
    return postgres.url


@pytest.fixture
def own_postgres_url(postgres: PostgresServer) -> str:
    """Of a database with nothing in it, for this test alone."""
    return postgres.create(f"own_{next(_numbers)}")


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
