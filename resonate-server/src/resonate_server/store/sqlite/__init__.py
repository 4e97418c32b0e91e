"""The store on SQLite: one file (or none: :data:`IN_MEMORY`), one connection, one writer.

``store`` keeps the contract: what is decided together, when it is committed, who is told. ``database`` is the unit of
work: what was written and is not in the file yet, and when it gets there. ``cache`` keeps rows that are in use, so that
a request seldom asks the file; ``statements`` is all the SQL there is, ``rows`` turns structs into rows and back,
``file`` opens the file.
"""

from resonate_server.store.sqlite.database import Database
from resonate_server.store.sqlite.file import IN_MEMORY, StoreUnusable, Synchronous
from resonate_server.store.sqlite.store import SQLiteStore

__all__ = ["IN_MEMORY", "Database", "SQLiteStore", "StoreUnusable", "Synchronous"]
