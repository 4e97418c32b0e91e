"""Random requests over HTTP, one after the other, to a server whose time is moved by hand; the model explains them.

More steps, or a failing run once more:

    MACHINE_STEPS=1000000 python -m pytest resonate-server/tests/machine/test_sequential.py
    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/machine/test_sequential.py
"""

import os
from collections.abc import Iterator

import pytest
from differential.kernel import body_of
from differential.operations import START
from differential.sequences import run_sequences
from differential.wire import Wire
from harness.server import ServerProcess
from machine.sequence import CORR_ID, Seen, Sequence

STEPS = int(os.environ.get("MACHINE_STEPS", "50_000"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("machine") / "server.log", RESONATE_DEBUG="true").start()
    yield process
    process.stop()


def test_every_answer_is_one_that_the_machine_gives(server: ServerProcess) -> None:
    wire, seen = Wire(server.port), Seen()
    wire.call(body_of("debug.start", {}, START, CORR_ID))

    run_sequences(lambda: Sequence(lambda bodies: wire.call(*bodies), seen), STEPS)

    print(f"{seen.total()} answers: {dict(seen)}")
    assert seen.total() >= STEPS
    seen.check()
