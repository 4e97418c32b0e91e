"""Eight clients at once on several servers with one database: some order of each tree's requests explains all answers.

Their time is a century ahead, where nothing is due, so that the servers go on with all that they do by themselves.
A failing run once more:

    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/machine/test_servers.py
"""

from pathlib import Path

import pytest
from differential.sequences import SEED
from harness.basics import wait_until
from harness.server import ServerProcess
from machine.history import AHEAD, check_histories

HISTORIES = 15


@pytest.mark.parametrize("number", [1, 3])
def test_what_clients_of_several_servers_see_at_once_has_an_order(
    number: int, own_postgres_url: str, tmp_path: Path
) -> None:
    place = {"RESONATE_STORAGE__TYPE": "postgres", "RESONATE_STORAGE__POSTGRES__URL": own_postgres_url}
    servers = [
        ServerProcess(tmp_path / f"{each}.log", None, None, RESONATE_DEBUG="true", **place) for each in range(number)
    ]
    try:
        for server in servers:
            server.launch()
        for server in servers:
            wait_until(server.is_ready, "the server is ready")
        print(f"DIFFERENTIAL_SEED={SEED} repeats these clients")

        seen = check_histories([server.port for server in servers], HISTORIES, SEED, AHEAD)
    finally:
        for server in servers:
            server.kill()

    print(f"{seen.total()} answers: {dict(seen)}")
    seen.check_strangers()
