"""Numbers of many measurements: medians, quantiles, and ratios of rounds that were run in turns.

Rounds of two systems are interleaved (A B A B ...), so that what disturbs the machine disturbs both; the ratio is taken
within each round, and the median of those ratios is the figure.
"""

import math
from collections.abc import Sequence
from statistics import median as median

from msgspec import Struct


class Quantiles(Struct, frozen=True):
    """In the unit of the measurements."""

    p50: float
    p90: float
    p99: float
    max: float


class Ratio(Struct, frozen=True):
    """The median over the rounds, and the least and greatest of them."""

    median: float
    low: float
    high: float


def quantile(values: Sequence[float], share: float) -> float:
    """The least measured value that at least ``share`` (0 to 1) of all values do not exceed; no interpolation.

    Raises ``ValueError`` if there are no values.
    """
    if not values:
        raise ValueError("no values, no quantile")
    rank = math.ceil(share * len(values))
    return sorted(values)[max(rank - 1, 0)]


def quantiles(values: Sequence[float]) -> Quantiles:
    """Raises ``ValueError`` if there are no values."""
    ordered = sorted(values)
    return Quantiles(
        p50=median(ordered), p90=quantile(ordered, 0.9), p99=quantile(ordered, 0.99), max=quantile(ordered, 1)
    )


def spread(values: Sequence[float]) -> Ratio:
    """Median, least and greatest of one value per round."""
    return Ratio(median=median(values), low=min(values), high=max(values))


def ratio_of_rounds(values: Sequence[float], others: Sequence[float]) -> Ratio:
    """``values`` divided by ``others``, round by round."""
    return spread([value / other for value, other in zip(values, others, strict=True)])
