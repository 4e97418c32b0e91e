"""`bench recovery`: every scenario once, for real, and what the report says of it."""

import random
from pathlib import Path
from unittest.mock import patch

import pytest

from bench import recovery
from bench.load import WrongAnswers
from bench.recovery import OURS, SCENARIOS, Measures, Scenario
from bench.report import Report
from bench.stage import Stage, TooLate, moment_of

QUIET = Scenario("nothing happens", "bar", "suspended")

pytestmark = pytest.mark.long


def draw(_: Scenario, __: Stage, chance: random.Random) -> Measures:
    return {"a to b": chance.random()}


def measured(scenario: Scenario, **how: int) -> Report:
    """With trials in which nothing happens."""
    with patch.object(Scenario, "play", draw):
        return recovery.measure(scenarios=[scenario], **how)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_trial_of_each_scenario_ends_with_the_right_answer_and_its_seconds(scenario: Scenario) -> None:
    report = recovery.measure(trials=1, official_trials=0, scenarios=[scenario])

    what = {row[0] for row in report.tables[0].rows}
    assert set(scenario.targets) <= what
    for samples in report.samples:
        assert len(samples.values) == 1 and samples.values[0] > 0, samples.name
    targets = {figure.name: figure.target for figure in report.figures}
    assert targets == {f"{scenario.name}: {each}, p99": scenario.targets.get(str(each)) for each in what}


def test_trials_with_official_timing_stand_beside_ours() -> None:
    report = measured(QUIET, trials=2, official_trials=1)

    assert [row[:3] for row in report.tables[0].rows] == [["a to b", "ours", 2], ["a to b", "as official", 1]]


def test_the_same_seed_draws_the_same_moments_however_many_stacks_share_them() -> None:
    waiting = Scenario(QUIET.name, "bar", "at work")
    alone, shared = (measured(waiting, seed=7, trials=10, official_trials=0, parallel=each) for each in (1, 2))

    assert sorted(alone.samples[0].values) == sorted(shared.samples[0].values)


def test_a_trial_whose_fault_came_too_late_is_made_again_and_told_of() -> None:
    with patch.object(Scenario, "play", side_effect=[TooLate(), {"a to b": 1.0}]):
        report = recovery.measure(trials=1, official_trials=0, scenarios=[QUIET])

    assert report.samples[0].values == [1.0]
    assert "Trials repeated because their fault came too late: 1." in report.notes


def test_a_baz_that_ran_too_often_fails_the_benchmark(tmp_path: Path) -> None:
    with Stage(tmp_path / "stage", OURS) as stage:
        call = stage.call()
        stage.answered(call, runs_of_baz=1)

        with pytest.raises(WrongAnswers):
            stage.answered(call, runs_of_baz=0)


def test_a_moment_is_read_off_the_servers_log_and_nothing_before_it_counts(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    lines = [f'{{"time": "2026-01-01T00:00:0{second}.500+00:00", "message": "worker connected"}}' for second in (1, 2)]
    log.write_text("\n".join(["not JSON", *lines]))
    base = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC

    assert moment_of(log, "connected", since=base) == base + 1.5
    assert moment_of(log, "connected", since=base + 1.6) == base + 2.5
    with pytest.raises(LookupError):
        moment_of(log, "connected", since=base + 2.6)
