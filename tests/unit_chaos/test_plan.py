"""The plan depends on the seed alone, and stays within its limits."""

from itertools import islice

import pytest

from chaos import plan
from resonate_server.client.account import FaultKind

LEASE_S = 10.0
SERVICES = ("resonate-server", "foo", "bar", "baz", "qux")
KINDS = {FaultKind.KILL: 5, FaultKind.FREEZE: 3}
SEEDS = range(20)


def some_waves(seed: int, kinds: dict[FaultKind, int] = KINDS) -> list[plan.Wave]:
    return list(islice(plan.waves(seed, SERVICES, kinds, LEASE_S), 50))


def test_the_same_seed_gives_the_same_plan() -> None:
    assert plan.chains(7, 100, 60) == plan.chains(7, 100, 60)
    assert some_waves(7) == some_waves(7)


def test_another_seed_gives_another_plan() -> None:
    assert plan.chains(7, 100, 60) != plan.chains(8, 100, 60)
    assert some_waves(7) != some_waves(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_chains_are_sent_one_after_the_other_over_the_whole_time(seed: int) -> None:
    times = [chain.at for chain in plan.chains(seed, 100, 60)]

    assert len(times) == 100
    assert times == sorted(times)
    assert 0 <= times[0] < 1 and 59 < times[-1] < 60


@pytest.mark.parametrize("seed", SEEDS)
def test_the_faults_of_a_wave_strike_different_services(seed: int) -> None:
    for wave in some_waves(seed):
        services = [strike.service for strike in wave.strikes]
        assert 1 <= len(services) == len(set(services))


def test_only_faults_that_the_stack_supports_are_planned() -> None:
    assert {strike.kind for wave in some_waves(1) for strike in wave.strikes} == set(KINDS)
    assert FaultKind.PARTITION in {
        strike.kind for wave in some_waves(1, {**KINDS, FaultKind.PARTITION: 2}) for strike in wave.strikes
    }


def test_in_the_long_run_every_service_is_struck_alone_and_with_others_briefly_and_beyond_a_lease() -> None:
    waves = [wave for seed in SEEDS for wave in some_waves(seed)]
    strikes = [strike for wave in waves for strike in wave.strikes]

    assert {strike.service for strike in strikes} == set(SERVICES)
    assert {len(wave.strikes) for wave in waves} == {1, 2, 3, 4}
    assert any(strike.lasts > LEASE_S for strike in strikes) and any(strike.lasts < 1 for strike in strikes)
    assert max(strike.lasts for strike in strikes) <= LEASE_S + plan.BEYOND_LEASE_S
