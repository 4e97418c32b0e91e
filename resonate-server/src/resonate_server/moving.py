"""Copies the whole state of a stopped server to another store."""

from pathlib import Path

from resonate_server.config import Postgres, Sqlite, Storage
from resonate_server.store.shared_sql import COLUMNS
from resonate_server.store.sqlite import IN_MEMORY
from resonate_server.store.sqlite.whole_file import whole_file
from resonate_server.store.whole import CannotCopy, Opening


def place(text: str, storage: Storage) -> Storage:
    """Parse ``sqlite:PATH`` or ``postgres:URL``; ``storage`` supplies a missing part. Raises ``ValueError``."""
    kind, _, where = text.partition(":")
    if kind in ("postgres", "postgresql"):
        url = text if where.startswith("//") else where or storage.postgres.url
        if not url:
            raise ValueError("postgres: needs a URL, here or in the settings")
        return Storage(type="postgres", postgres=Postgres(url=url))
    if kind == "sqlite":
        path = Path(where) if where else storage.sqlite.path
        if path == IN_MEMORY:
            raise ValueError("state in memory ends with its server")
        return Storage(sqlite=Sqlite(path=path))
    raise ValueError(f"expected sqlite:PATH or postgres:URL, not {kind!r}")


def move(source: Storage, target: Storage) -> dict[str, int]:
    """Return the number of rows copied, by table. Raises :class:`CannotCopy`, and leaves the target as it was."""
    if not source.is_postgres and not source.sqlite.path.is_file():
        raise CannotCopy(f"{source.sqlite.path} does not exist")
    opening, into = _opening(source, is_source=True), _opening(target)
    if _is_same(source, target):
        raise CannotCopy(f"source and target are the same {'database' if source.is_postgres else 'file'}")
    with opening as old, into as new:
        if not new.is_empty():
            raise CannotCopy("the target is not empty")
        counts = {table: new.put(table, old.rows(table)) for table in COLUMNS}
        new.set_time(old.time())
    return counts


def summary(counts: dict[str, int]) -> str:
    """Describe the result of :func:`move` for people."""
    owed = counts["callbacks"] + counts["listeners"] + counts["unblocks"]
    parts = (_counted(counts[name], name) for name in ("promises", "tasks", "schedules"))
    return f"{', '.join(parts)}, and {_counted(owed, 'answers')} still owed to whoever waits for a promise"


def _counted(number: int, things: str) -> str:
    return f"{number:,} {things.removesuffix('s') if number == 1 else things}"


def _is_same(one: Storage, other: Storage) -> bool:
    if one.type != other.type:
        return False
    if not one.is_postgres:
        path = other.sqlite.path
        return path.exists() and path.samefile(one.sqlite.path)
    from resonate_server.store.postgres.whole_database import is_same_database

    return is_same_database(one.postgres.url, other.postgres.url)


def _opening(storage: Storage, is_source: bool = False) -> Opening:
    if not storage.is_postgres:
        return whole_file(storage.sqlite.path, is_source)
    try:
        from resonate_server.store.postgres import check_url
        from resonate_server.store.postgres.whole_database import whole_database
    except ImportError as error:
        raise CannotCopy(f"PostgreSQL needs the extra `postgres` of this package: {error}") from error
    try:
        check_url(storage.postgres.url)
    except ValueError as error:
        raise CannotCopy(str(error)) from None
    return whole_database(storage.postgres.url)
