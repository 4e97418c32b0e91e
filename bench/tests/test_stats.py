"""Numbers of many measurements."""

import pytest

from bench.stats import Ratio, quantile, quantiles, ratio_of_rounds, spread


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, 100.0], 0.5) == 1.0


def test_the_p99_of_few_values_is_the_greatest() -> None:
    assert quantile([float(number) for number in range(50)], 0.99) == 49.0


def test_one_value_of_a_hundred_may_exceed_the_p99() -> None:
    assert quantile([*(1.0 for _ in range(99)), 500.0], 0.99) == 1.0


def test_no_values_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_quantiles_do_not_ask_for_an_order() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    summary = quantiles(values)

    assert (summary.p50, summary.p90, summary.p99, summary.max) == (50.5, 90.0, 99.0, 100.0)


def test_a_ratio_is_taken_within_each_round() -> None:
    """A round in which the machine was slow for both does not move it."""
    assert ratio_of_rounds([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == Ratio(median=2.0, low=2.0, high=3.0)


def test_rounds_that_do_not_pair_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="argument"):
        ratio_of_rounds([1.0, 2.0], [1.0])


def test_a_spread_tells_the_least_and_the_greatest_round() -> None:
    assert spread([5.0, 1.0, 2.0]) == Ratio(median=2.0, low=1.0, high=5.0)
