"""PostgreSQL fixtures shared by several test folders: one server per pytest process that needs it."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from harness.postgres import PostgresServer

EMPTY = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "DROP SCHEMA IF EXISTS resonate, elsewhere CASCADE",
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public",
    "ALTER DATABASE own RESET ALL",
)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server without fsync: it loses data only if the machine crashes."""
    own = tmp_path_factory.getbasetemp()
    server = PostgresServer((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "postgres", fsync="off")
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a database with the schema."""
    from unit.postgres import make_schema

    make_schema(postgres.url)
    return postgres.url


@pytest.fixture(scope="session")
def emptied_postgres_url(postgres: PostgresServer) -> str:
    return postgres.create("own")


@pytest.fixture
def own_postgres_url(emptied_postgres_url: str) -> str:
    """The URL of an empty database that no other test uses meanwhile. It is always the same one: to create a database
    takes as long as most tests."""
    import psycopg

    with psycopg.connect(emptied_postgres_url, autocommit=True) as connection:
        for statement in EMPTY:
            connection.execute(statement)
    return emptied_postgres_url


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
