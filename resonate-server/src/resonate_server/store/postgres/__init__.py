"""The store on PostgreSQL: one database, one server at work on it, and others that take over when it dies.

``postgres_store`` keeps the contract: one transaction per question, on one of several connections, and who is told in
which order. ``plans`` says what is asked and what follows from it, in rounds that are one journey each: most requests
take two, the first locks rows in the order of their ids and reads them, the second writes and commits. ``view`` is for
those who only look. ``sql`` is all the SQL there is, ``driver`` the connections that carry it out, ``schema`` makes the
tables. ``primacy`` decides which server works, ``transaction`` makes sure that no other one does, ``database_clock``
tells the time of the database, and ``turns`` who goes first.

Ready for many servers at once: questions lock their rows, and are asked again when somebody was faster; nothing is kept
in memory that the database would not answer; the time is the database's. What is missing, because it has no place in a
store: who is connected to which server, and how a message finds the one with its worker's stream (delivery); periodic
duties that any server may do (the alarm in here knows only of its own server's changes, due rows are not divided, and
deleting trees and reading in order rely on nobody else being at work); presence, leases at a start, figures and the
page, which know of one server only.
"""

from resonate_server.store.postgres.driver import check_url
from resonate_server.store.postgres.postgres_store import PostgresStore

__all__ = ["PostgresStore", "check_url"]
