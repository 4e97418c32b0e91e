"""`bench recovery`: every scenario once, for real, and what the report says of it."""

import random
from pathlib import Path

import pytest

from bench import recovery
from bench.faults import SCENARIOS, Measures, Scenario, Stage
from bench.load import WrongAnswers
from bench.recovery import OURS
from bench.witness import ServerLog, TooLate

pytestmark = pytest.mark.long


def nothing(_: Stage, chance: random.Random) -> Measures:
    return {"a to b": chance.random()}


QUIET = Scenario("nothing happens", nothing)


def of(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_trial_of_each_scenario_ends_with_the_right_answer_and_its_seconds(scenario: Scenario) -> None:
    report = recovery.measure(trials=1, official_trials=0, scenarios=[scenario])

    measured = {row[0] for row in report.tables[0].rows}
    assert set(scenario.targets) <= measured
    for samples in report.samples:
        assert len(samples.values) == 1 and samples.values[0] > 0, samples.name
    for what in measured:
        assert report.figure(f"{scenario.name}: {what}, p99").target == scenario.targets.get(str(what))


def test_trials_with_official_timing_stand_beside_ours() -> None:
    report = recovery.measure(trials=2, official_trials=1, scenarios=[QUIET])

    assert [row[:3] for row in report.tables[0].rows] == [["a to b", "ours", 2], ["a to b", "as official", 1]]


def test_the_same_seed_draws_the_same_moments_however_many_stacks_share_them() -> None:
    waiting = Scenario(QUIET.name, QUIET.play, mostly_waits=True)
    alone = recovery.measure(seed=7, trials=10, official_trials=0, parallel=1, scenarios=[waiting])
    shared = recovery.measure(seed=7, trials=10, official_trials=0, parallel=2, scenarios=[waiting])

    assert sorted(alone.samples[0].values) == sorted(shared.samples[0].values)


def test_a_trial_whose_fault_came_too_late_is_made_again_and_told_of() -> None:
    first_attempts = iter([TooLate()])

    def late_once(_: Stage, __: random.Random) -> Measures:
        for error in first_attempts:
            raise error
        return {"a to b": 1.0}

    report = recovery.measure(trials=1, official_trials=0, scenarios=[Scenario("late once", late_once)])

    assert report.samples[0].values == [1.0]
    assert "Trials repeated because their fault came too late: 1." in report.notes


def test_a_baz_that_ran_too_often_fails_the_benchmark(tmp_path: Path) -> None:
    with Stage(tmp_path / "stage", OURS, of("bar killed while suspended").cast) as stage:
        call = stage.call()
        stage.answered(call)

        stage.expect_runs_of_baz(call, 1)
        with pytest.raises(WrongAnswers):
            stage.expect_runs_of_baz(call, 0)


def test_a_moment_is_read_off_the_servers_log_and_nothing_before_it_counts(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    lines = [f'{{"time": "2026-01-01T00:00:0{second}.500+00:00", "message": "worker connected"}}' for second in (1, 2)]
    log.write_text("\n".join(["not JSON", *lines]))
    base = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC

    assert ServerLog(log).moment_of("connected", since=base) == base + 1.5
    assert ServerLog(log).moment_of("connected", since=base + 1.6) == base + 2.5
    with pytest.raises(LookupError):
        ServerLog(log).moment_of("connected", since=base + 2.6)
