"""Concurrent clients on several servers with one database: some order of each tree's requests explains all answers."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from differential.sequences import SEED
from harness.basics import wait_until
from harness.server import ServerProcess
from integration.servers import postgres_at, starting
from machine.history import AHEAD, Trouble, check_histories
from machine.sequence import Seen

HISTORIES = 15
WITH_KILLS = 4

type StartMany = Callable[[int], list[ServerProcess]]


@pytest.fixture
def start(own_postgres_url: str, tmp_path: Path) -> Iterator[StartMany]:
    """Start the given number of servers on one database."""
    with starting(tmp_path) as one:
        yield lambda number: [one(RESONATE_DEBUG="true", **postgres_at(own_postgres_url)) for _ in range(number)]


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


def check(servers: list[ServerProcess], histories: int, trouble: Trouble) -> Seen:
    print(f"DIFFERENTIAL_SEED={SEED} repeats these clients")
    seen = check_histories([server.port for server in servers], histories, SEED, AHEAD, trouble)
    print(f"{seen.total()} answers, {seen.unanswered} requests without one: {dict(seen)}")
    seen.check_no_unexpected_answers()
    return seen


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 3])
def test_concurrent_requests_to_several_servers_are_linearizable(number: int, start: StartMany) -> None:
    check(start(number), HISTORIES, Trouble())


def test_concurrent_requests_are_linearizable_while_servers_are_killed(start: StartMany) -> None:
    servers = start(3)
    seen = check(servers, WITH_KILLS, Kills(servers))

    assert seen.unanswered > 0
