"""Random requests over HTTP to a server whose time is moved by hand: the model must explain every answer.

One client sends its requests one after another. Several clients send theirs concurrently: some order of each tree's
requests must exist in which the model gives all answers. The clock stands still meanwhile, so an order also determines
all times. To run more steps, or to repeat a failing run:

    MACHINE_STEPS=1000000 python -m pytest resonate-server/tests/machine/test_machine.py
    DIFFERENTIAL_SEED=17 python -m pytest resonate-server/tests/machine/test_machine.py
"""

import os
from collections.abc import Iterator

import pytest
from differential.kernel import body_of
from differential.operations import START
from differential.sequences import SEED, run_sequences
from differential.wire import Wire
from harness.server import ServerProcess
from machine.history import Call, Unordered, check_histories, order
from machine.model import Answer, Json, Request
from machine.sequence import CORR_ID, Seen, Sequence

STEPS = int(os.environ.get("MACHINE_STEPS", "20_000"))
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


def call(sent: int, answered: int, kind: str, data: Json, status: int, answer: object = None) -> Call:
    return Call(0, sent, answered, Request(START, kind, data), Answer(status, answer))


SCHEDULE = {"id": "s1", "cron": "0 0 1 1 *", "promiseId": "p", "promiseTimeout": 1}
MISSING = {"id": "s1"}


def test_concurrent_requests_may_be_ordered_either_way() -> None:
    deleted = call(0, 9, "schedule.delete", MISSING, 200, {})
    missing = call(1, 3, "schedule.get", MISSING, 404)
    made = call(2, 8, "schedule.create", SCHEDULE, 200, created())

    assert order([deleted, missing, made]) == [missing, made, deleted]


def test_a_request_is_ordered_after_those_answered_before_it_was_sent() -> None:
    made = call(0, 1, "schedule.create", SCHEDULE, 200, created())
    missing = call(2, 3, "schedule.get", MISSING, 404)

    with pytest.raises(Unordered):
        order([made, missing])


def test_only_one_of_two_concurrent_deletions_can_succeed() -> None:
    made = call(0, 1, "schedule.create", SCHEDULE, 200, created())
    deleted = [call(2, 9, "schedule.delete", MISSING, 200, {}) for _ in range(2)]

    with pytest.raises(Unordered):
        order([made, *deleted])


def created() -> Json:
    times = {"createdAt": START, "nextRunAt": 1_704_067_200_000}
    return {"schedule": {**SCHEDULE, "promiseParam": {}, "promiseTags": {}, **times}}
