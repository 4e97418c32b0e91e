"""Several servers on one PostgreSQL under faults: the same system as with one server, and the same invariants.

    SEEDS=1000 python -m pytest -m long resonate-server/tests/simulation/test_servers.py     more runs
    SEED=17 python -m pytest resonate-server/tests/simulation/test_servers.py                one seed, step by step

Besides the faults of workers and network, servers die or stall at any point, and their connections to the database are
slow, or break between any two statements, which the database may notice seconds later.
"""

import os

import pytest
from harness.postgres import PostgresServer
from simulation.on_postgres import simulate_servers

ONE_SEED = os.environ.get("SEED")
SEEDS = int(os.environ.get("SEEDS", "24"))
FEW = 3


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> str:
    return postgres.create("simulation")


def seeds() -> list[object]:
    if ONE_SEED is not None:
        return [int(ONE_SEED)]
    return [*range(FEW), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(FEW, SEEDS))]


@pytest.mark.parametrize("seed", seeds())
def test_whatever_goes_wrong_nothing_is_lost_and_everything_gets_done(seed: int, url: str) -> None:
    report = simulate_servers(url, seed, trace=True)

    print(f"all done {report.calm_s:.1f} s (virtual) after the last fault; {report.happened}")
    if report.broken:
        pytest.fail(report.told("/test_servers.py"), pytrace=False)
