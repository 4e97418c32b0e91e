"""Mistakes to be noticed: those of the simulation, and one that only clients see who ask at once.

As a program, it is a server with a mistake: ``python -m machine.mutants MISTAKE dev ...``.
"""

import sys
from unittest import mock

from simulation.mutants import MUTANTS, Patch

from resonate_server.cli import main
from resonate_server.kernel.model import Decision
from resonate_server.store.sqlite import Database, SQLiteStore
from resonate_server.store.sqlite.store import Job, Outcome


def requests_in_one_transaction_do_not_see_each_other() -> Patch:
    """The lost update: of two that change the same row, the later one's change stands."""
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
