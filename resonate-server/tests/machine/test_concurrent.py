"""Several clients at once over HTTP: there is an order of each tree's requests in which the model gives all answers.

The server's clock stands still while they ask, so that an order tells all times, too; between the halves of a history
it jumps. Another run, or a failing one once more:

    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/machine/test_concurrent.py
"""

from collections.abc import Iterator

import pytest
from differential.operations import START
from differential.sequences import SEED
from harness.server import ServerProcess

HISTORIES = 50
CLAIM = {"id": "t1", "version": 0, "pid": "p", "ttl": 1_000}
CREATE = {"id": "t1", "timeoutAt": START + 1_000, "tags": {"resonate:target": "poll://any@workers"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("machine") / "server.log", RESONATE_DEBUG="true").start()
    yield process
    process.stop()


def test_what_many_clients_see_has_an_order(server: ServerProcess) -> None:
    print(f"DIFFERENTIAL_SEED={SEED} repeats these clients")
    seen = check_histories(server.port, HISTORIES, SEED)

    print(f"{seen.total()} answers: {dict(seen)}")
    seen.check_strangers()
