"""Mutants that the tests must catch: those of the simulation, and one that only concurrent clients can notice.

Run as a program, this module is a server with one mutation: ``python -m machine.mutants MUTANT dev ...``.
"""

import sys
from unittest import mock

from simulation.mutants import MUTANTS, Patch

from resonate_server.cli import main
from resonate_server.kernel.model import Decision
from resonate_server.store.sqlite import Database, SQLiteStore
from resonate_server.store.sqlite.store import Job, Outcome


def requests_in_one_transaction_do_not_see_each_other() -> Patch:
    """A lost update: of two requests that change the same row, the later one overwrites the earlier."""
    decide, keep = SQLiteStore._decide, Database._keep

    def blind(self: SQLiteStore, batch: list[Job], now: int) -> tuple[list[Outcome], bool]:
        kept: list[tuple[Database, Decision, int]] = []
        with mock.patch.object(Database, "_keep", lambda *decided: kept.append(decided)):
            outcomes, _ = decide(self, batch, now)
        for decided in kept:
            keep(*decided)
        return outcomes, self._flush()

    return mock.patch.object(SQLiteStore, "_decide", blind)


ALL = {
    **MUTANTS,
    "requests_in_one_transaction_do_not_see_each_other": requests_in_one_transaction_do_not_see_each_other,
}

if __name__ == "__main__":
    mistake = sys.argv.pop(1)
    with ALL[mistake]():
        main()
