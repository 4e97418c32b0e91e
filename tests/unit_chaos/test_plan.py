"""The plan depends on the seed alone, and stays within its limits."""

from itertools import islice

from chaos import plan
from resonate_server.client.account import FaultKind

LEASE_S = 10.0
SERVICES = ("resonate-server", "foo", "bar", "baz", "qux")
KINDS = {FaultKind.KILL: 5, FaultKind.FREEZE: 3}
SEEDS = range(20)


def some_waves(seed: int) -> list[plan.Wave]:
    return list(islice(plan.waves(seed, SERVICES, KINDS, LEASE_S), 50))


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert plan.chains(7, 100, 60) == plan.chains(7, 100, 60) != plan.chains(8, 100, 60)
    assert some_waves(7) == some_waves(7) != some_waves(8)


def test_chains_are_sent_one_after_the_other_over_the_whole_time() -> None:
    for seed in SEEDS:
        times = [chain.due for chain in plan.chains(seed, 100, 60)]
        assert len(times) == 100
        assert times == sorted(times)
        assert 0 <= times[0] < 1 and 59 < times[-1] < 60


def test_in_the_long_run_every_service_is_struck_alone_and_with_others_briefly_and_beyond_a_lease() -> None:
    waves = [wave for seed in SEEDS for wave in some_waves(seed)]
    strikes = [strike for wave in waves for strike in wave.strikes]

    assert all(len({strike.service for strike in wave.strikes}) == len(wave.strikes) for wave in waves)
    assert {strike.kind for strike in strikes} == set(KINDS)
    assert {strike.service for strike in strikes} == set(SERVICES)
    assert {len(wave.strikes) for wave in waves} == {1, 2, 3, 4}
    assert any(strike.lasts > LEASE_S for strike in strikes) and any(strike.lasts < 1 for strike in strikes)
    assert max(strike.lasts for strike in strikes) <= LEASE_S + plan.BEYOND_LEASE_S
