"""Random requests over HTTP to a server whose time is moved by hand: the model must explain every answer."""

import os
from collections.abc import Iterator

import pytest
from differential.kernel import body_of
from differential.operations import START
from differential.sequences import SEED, run_sequences
from differential.wire import Wire
from harness.server import ServerProcess
from machine.history import check_histories
from machine.sequence import CORR_ID, Seen, Sequence

STEPS = int(os.environ.get("MACHINE_STEPS", "20_000"))
"""A run by hand may set more."""
FEW = 3_000
"""Enough steps to find most bugs."""
HISTORIES = 20


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that does nothing by itself."""
    server = ServerProcess(tmp_path_factory.mktemp("machine") / "server.log", RESONATE_DEBUG="true").start()
    Wire(server.port).call(body_of("debug.start", {}, START, CORR_ID))
    yield server.port
    server.stop()


@pytest.mark.parametrize("steps", [FEW, pytest.param(STEPS, marks=pytest.mark.long)], ids=["few", "many"])
def test_every_answer_is_one_that_the_machine_gives(port: int, steps: int) -> None:
    wire, seen = Wire(port), Seen()
    run_sequences(
        lambda: Sequence(lambda bodies: wire.call(*bodies), seen),
        steps,
        lambda: seen.total() >= steps and not seen.missing(),
    )

    print(f"{seen.total()} answers: {dict(seen)}")
    assert seen.total() >= steps
    seen.check()


def test_concurrent_requests_are_linearizable(port: int) -> None:
    print(f"DIFFERENTIAL_SEED={SEED} repeats these clients")
    seen = check_histories([port], HISTORIES, SEED)

    print(f"{seen.total()} answers: {dict(seen)}")
    seen.check_no_unexpected_answers()
