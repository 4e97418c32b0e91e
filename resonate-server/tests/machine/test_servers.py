"""Concurrent clients on several servers with one database: some order of each tree's requests explains all answers,
even while one of the servers is killed and restarted.

The clients' time is a century ahead, where nothing is due, so the servers' background work can stay on.
To repeat a failing run:

    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/machine/test_servers.py
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from differential.sequences import SEED
from harness.basics import wait_until
from harness.server import ServerProcess
from integration.servers import postgres_at, starting
from machine.history import AHEAD, Trouble, check_histories

WITH_KILLS = 4


@pytest.fixture
def servers(own_postgres_url: str, tmp_path: Path) -> Iterator[list[ServerProcess]]:
    """Three servers on one database."""
    with starting(tmp_path) as start:
        yield [start(RESONATE_DEBUG="true", **postgres_at(own_postgres_url)) for _ in range(3)]


class Kills(Trouble):
    """Kill one of the servers without warning and launch it again at once; it is ready when time moves on."""

    def __init__(self, servers: list[ServerProcess]) -> None:
        self._servers = servers
        self._random = random.Random(SEED)

    def strike(self) -> None:
        server = self._random.choice(self._servers)
        server.kill()
        server.launch()

    def heal(self) -> None:
        for server in self._servers:
            wait_until(server.is_ready, "the server is ready")


def test_concurrent_requests_are_linearizable_while_servers_are_killed(servers: list[ServerProcess]) -> None:
    print(f"DIFFERENTIAL_SEED={SEED} repeats these clients")
    seen = check_histories([server.port for server in servers], WITH_KILLS, SEED, AHEAD, Kills(servers))

    print(f"{seen.total()} answers, {seen.unanswered} requests without one: {dict(seen)}")
    seen.check_no_unexpected_answers()
    assert seen.unanswered > 0
