"""The store on PostgreSQL: one database, and any number of equal servers that work on it.

``postgres_store`` keeps the contract: questions that wait in ``inquiries`` share a transaction, and are answered in the
order of the commits. ``plans`` says what to ask the database and what follows, in rounds of one round trip each. Most
transactions take two: the first locks and reads rows, the second writes what ``writing`` holds, and commits.
``postgres_view`` runs the queries, ``sql`` has all the SQL, ``driver`` the connections and transactions; ``schema``
creates the tables. ``membership`` knows which servers are alive and what time they share, and carries their messages to
one another.

With many servers, a question locks its rows, and is retried when another server has them; of what is due, each server
takes what no other has locked; no rows stay in memory between transactions; the time is the database's.
"""

from resonate_server.store.postgres.driver import check_url
from resonate_server.store.postgres.postgres_store import PostgresStore

__all__ = ["PostgresStore", "check_url"]
