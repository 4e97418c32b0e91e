"""The store on SQLite: one file (or none: :data:`IN_MEMORY`), one connection, one writer.

``store`` keeps the contract: which requests share a transaction, when it is committed, who is told. ``database`` is the
unit of work: it loads rows, asks the rule and writes. ``cache`` keeps rows in use, so that requests seldom read
the file. ``statements`` has all the SQL, ``rows`` converts structs to rows and back, ``file`` opens the file.
"""

from resonate_server.store.errors import StoreUnusable
from resonate_server.store.sqlite.database import Database
from resonate_server.store.sqlite.file import IN_MEMORY, Synchronous
from resonate_server.store.sqlite.store import SQLiteStore

__all__ = ["IN_MEMORY", "Database", "SQLiteStore", "StoreUnusable", "Synchronous"]
