"""What is to happen, by the seed alone: which chains are sent when, and which faults strike whom, and for how long."""

from collections.abc import Iterator, Sequence
from random import Random

from msgspec import Struct

from chaos.records import FaultKind

LONGEST_SPEND_S = 3.0
BRIEF_S = 2.0
LONGEST_DEATH_S = 3.0
LONGEST_QUIET_S = 2.0
BEYOND_LEASE_S = 3.0
"""A fault may last so much longer than a lease: long enough that it ends, and its work is given away."""

FAULTS_AT_ONCE = {1: 60, 2: 25, 3: 10, 4: 5}
"""Weights."""


class PlannedChain(Struct, frozen=True):
    """``at``: seconds after the beginning. bar spends ``pause`` or ``running`` seconds, or none."""

    at: float
    pause: float = 0
    running: float = 0


class Strike(Struct, frozen=True):
    """``after`` so many seconds of its wave a fault strikes, and ``lasts`` so long.

    ``pick``: which of the service's instances is struck, from 0 for the first to 1 for the last.
    """

    service: str
    kind: FaultKind
    after: float
    lasts: float
    pick: float


class Wave(Struct, frozen=True):
    """Faults that overlap. After them there is ``quiet`` for so many seconds.

    ``patient``: first of all everything becomes healthy; else the next wave may meet services that just start.
    """

    strikes: tuple[Strike, ...]
    quiet: float
    patient: bool


def chains(seed: int, count: int, seconds: float) -> list[PlannedChain]:
    """``count`` chains, spread evenly but for a jitter over ``seconds``."""
    rng = Random(f"chains {seed}")
    gap = seconds / count
    return [_chain(rng, (number + rng.random()) * gap) for number in range(count)]


def _chain(rng: Random, at: float) -> PlannedChain:
    match rng.choice(["plain", "pause", "running"]):
        case "pause":
            return PlannedChain(at, pause=_seconds(rng, 0.1, LONGEST_SPEND_S))
        case "running":
            return PlannedChain(at, running=_seconds(rng, 0.1, LONGEST_SPEND_S))
    return PlannedChain(at)


def waves(seed: int, services: Sequence[str], kinds: dict[FaultKind, int], lease: float) -> Iterator[Wave]:
    """Without end. ``kinds``: which faults there are, with their weights; ``lease``: of the workers, in seconds."""
    rng = Random(f"faults {seed}")
    while True:
        (at_once,) = rng.choices(list(FAULTS_AT_ONCE), list(FAULTS_AT_ONCE.values()))
        struck = rng.sample(services, at_once)
        strikes = tuple(_strike(rng, service, kinds, lease) for service in struck)
        yield Wave(strikes, quiet=_seconds(rng, 0, LONGEST_QUIET_S), patient=rng.random() < 0.7)


def _strike(rng: Random, service: str, kinds: dict[FaultKind, int], lease: float) -> Strike:
    (kind,) = rng.choices(list(kinds), list(kinds.values()))
    return Strike(service, kind, after=_seconds(rng, 0, 1), lasts=_duration(rng, kind, lease), pick=rng.random())


def _duration(rng: Random, kind: FaultKind, lease: float) -> float:
    if kind is FaultKind.KILL:
        return _seconds(rng, 0, LONGEST_DEATH_S)
    if rng.random() < 0.6:
        return _seconds(rng, 0.1, BRIEF_S)
    return _seconds(rng, BRIEF_S, lease + BEYOND_LEASE_S)


def _seconds(rng: Random, least: float, most: float) -> float:
    return round(rng.uniform(least, most), 2)
