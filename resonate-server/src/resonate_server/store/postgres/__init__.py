"""The store on PostgreSQL: one database, and any number of servers at work on it, none of which is special.

``postgres_store`` keeps the contract: what waits, in a ``line``, shares a transaction, and is told in the order of the
commits. ``plans`` says what is asked and what follows from it, in rounds that are one journey each: most transactions
take two, the first locks rows and reads them, the second is one statement, made by ``writing``, and the commit.
``view`` is for those who only look. ``sql`` is all the SQL there is, ``driver`` the connections that carry it out,
``schema`` makes the tables. ``membership`` knows which servers live, and lets them tell one another; ``transaction`` is
one, and ``database_clock`` tells the time of the database.

Many servers at once: questions lock their rows, and come again when another server has them; of what is due, each takes
what no other one has locked; nothing is kept in memory that the database would not answer; the time is its own.
"""

from resonate_server.store.postgres.driver import check_url
from resonate_server.store.postgres.postgres_store import PostgresStore

__all__ = ["PostgresStore", "check_url"]
