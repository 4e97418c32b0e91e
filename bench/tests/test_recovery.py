"""`bench recovery`: a real run of each scenario, and what the report says about it."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock, patch

import psutil
import pytest
from harness.basics import wait_until
from msgspec.structs import replace

from bench import recovery
from bench.load import WrongAnswers
from bench.recovery import METHOD, SCENARIOS, Measures, Scenario
from bench.stack import SERVER, OwnServer
from bench.stage import Stage, TooLate

SMALL_CROWD = 30
"""Replaces the very large number of chains."""
ENOUGH_TIME: dict[str, Any] = {"PAUSE_SECONDS": 4.0, "REST_SECONDS": 4.0}
"""Long enough for a fault to come before a chain continues, even on a busy machine."""

pytestmark = pytest.mark.long


def draw(_: Stage, __: Scenario, chance: random.Random) -> Measures:
    return {"a to b": chance.random()}


@pytest.fixture
def empty_stage() -> Iterator[None]:
    """Start nothing: these trials need no programs."""
    with patch.object(Scenario, "stage", return_value=MagicMock()):
        yield


def drawn(parallel: int) -> list[float]:
    with patch.object(recovery, "hit_at_work", draw):  # so that stacks share it
        report = recovery.measure(7, 10, parallel, scenarios=[Scenario("nothing happens", draw)])
    return sorted(report.samples[0].values)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_trial_of_each_scenario_ends_with_the_right_answer_and_its_seconds(scenario: Scenario) -> None:
    small = replace(scenario, chains=min(scenario.chains, SMALL_CROWD))
    with patch.multiple(recovery, **ENOUGH_TIME):
        report = recovery.measure(trials=1, scenarios=[small])

    assert report.method == METHOD
    for samples in report.samples:
        assert len(samples.values) == 1 and samples.values[0] > 0, samples.name
    targets = {figure.name: figure.target.bound for figure in report.figures if figure.target}
    assert targets == {f"{scenario.name}: {what}, p99": bound for what, bound in scenario.targets.items()}


def test_another_server_is_measured_without_the_faults_that_kill_it(tmp_path: Path) -> None:
    killing = next(scenario for scenario in SCENARIOS if scenario.victim == SERVER)
    server = OwnServer(tmp_path).start()
    try:
        with patch.multiple(recovery, **ENOUGH_TIME):
            report = recovery.measure(trials=1, scenarios=[SCENARIOS[0], killing], url=server.url)
        assert server.is_ready()
    finally:
        server.kill()

    assert [table.title for table in report.tables] == [SCENARIOS[0].name]


@pytest.mark.usefixtures("empty_stage")
def test_the_same_seed_draws_the_same_moments_however_many_stacks_share_them() -> None:
    assert len(set(drawn(1))) == 10
    assert drawn(1) == drawn(2)


@pytest.mark.usefixtures("empty_stage")
def test_a_trial_whose_fault_came_too_late_is_repeated_and_reported() -> None:
    late_at_first = Mock(side_effect=[TooLate(), {"a to b": 1.0}])
    report = recovery.measure(trials=1, scenarios=[Scenario("nothing happens", late_at_first)])

    assert report.samples[0].values == [1.0]
    assert "Trials repeated because their fault came too late: 1." in report.notes


def test_a_baz_that_ran_too_often_fails_the_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    with Stage(folder, OwnServer(folder)) as stage:
        call = stage.call()
        stage.answered(call, {"baz": 1})

        with pytest.raises(WrongAnswers):
            stage.answered(call, {"baz": 0})


def test_a_benchmark_that_is_terminated_ends_everything_it_started(tmp_path: Path) -> None:
    words = ["recovery", "--only", "frozen", "--trials", "10", "--parallel", "2"]
    command = [sys.executable, "-c", "from bench.cli import main; main()", *words]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    benchmark = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    started: dict[int, psutil.Process] = {}

    def both_stacks_run() -> bool:
        started.update({each.pid: each for each in benchmark.children(recursive=True)})
        return len(list(tmp_path.glob("*/stack-*/baz.log"))) == 2

    wait_until(both_stacks_run, "both stacks run")
    benchmark.terminate()
    benchmark.wait()

    _, alive = psutil.wait_procs(started.values(), timeout=60)
    assert not [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
