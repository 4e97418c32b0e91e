"""The stores: SQLite on a file, and PostgreSQL on the tests' own server."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resonate_server.store.sqlite import Database

LONG_ON_POSTGRES = ("TestUndo", "TestRoots", "TestOwed", "TestSizes")
"""Test classes that PostgreSQL runs only with the long tests: they exercise little that is specific to it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "[postgres" in item.nodeid and any(f"::{name}::" in item.nodeid for name in LONG_ON_POSTGRES):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of a SQLite store is or will be."""
    return tmp_path / "state.db"


@pytest.fixture
def sqlite_store(path: Path) -> Iterator[Database]:
    """A SQLite store, empty unless the test file's ``path`` says otherwise."""
    with closing(Database(path, "NORMAL")) as store:
        yield store


@pytest.fixture
def store(sqlite_store: Database) -> Database:
    """The store for tests of SQLite alone."""
    return sqlite_store


@pytest.fixture(params=["sqlite", "postgres"])
def each_store(request: pytest.FixtureRequest) -> Any:
    """Each store in turn, empty, for tests of what both guarantee."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def freezer(own_postgres_url: str) -> Iterator[Any]:
    """Freezes processes of that database; see :class:`unit.store.servers.Freezer`."""
    from unit.store.servers import Freezer

    freezer = Freezer(own_postgres_url)
    yield freezer
    freezer.thaw()


@pytest.fixture
async def site(own_postgres_url: str, freezer: Any) -> AsyncIterator[Any]:
    """Servers on an empty PostgreSQL database; see :class:`unit.store.servers.Site`."""
    from unit.store.servers import Site

    site = Site(own_postgres_url)
    yield site
    freezer.thaw()
    await site.close()


@pytest.fixture
async def server(site: Any) -> Any:
    """One of them, at work; see :class:`unit.store.servers.Server`."""
    return await site.server()
