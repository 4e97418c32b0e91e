"""Plans an experiment from its seed alone: when chains are sent, and which faults strike which service for how long."""

from collections.abc import Iterator, Sequence
from random import Random

from msgspec import Struct

from chaos.ledger import SentChain
from resonate_server.client.account import FaultKind

LONGEST_SPEND_S = 3.0
BRIEF_S = 2.0
LONGEST_DEATH_S = 3.0
LONGEST_QUIET_S = 2.0
BEYOND_LEASE_S = 3.0
"""How much longer than a lease a fault may last: long enough for the lease to expire and its work to be given away."""

FAULTS_AT_ONCE = {1: 60, 2: 25, 3: 10, 4: 5}
"""The weight of each number of faults."""


class Strike(Struct, frozen=True):
    """A fault that begins ``after`` seconds into its wave. ``lasts``: for how many seconds.

    ``pick``: which of the service's instances it hits, from 0 for the first to 1 for the last.
    """

    service: str
    kind: FaultKind
    after: float
    lasts: float
    pick: float


class Wave(Struct, frozen=True):
    """Faults that overlap, followed by ``quiet`` seconds without any.

    ``patient``: wait until everything is healthy first; otherwise the next wave may meet services that just start.
    """

    strikes: tuple[Strike, ...]
    quiet: float
    patient: bool


def chains(seed: int, count: int, seconds: float, prefix: str = "") -> list[SentChain]:
    """Return ``count`` chains, spread evenly over ``seconds``, with a jitter. ``prefix``: of their ids."""
    rng = Random(f"chains {seed}")
    return [_chain(rng, f"{prefix}{number:04}", (number + rng.random()) * seconds / count) for number in range(count)]


def _chain(rng: Random, id: str, due: float) -> SentChain:
    """bar pauses, works, or does neither."""
    spends = rng.choice(["nothing", "pause", "running"])
    seconds = _seconds(rng, 0.1, LONGEST_SPEND_S)
    return SentChain(id, due, pause=seconds * (spends == "pause"), running=seconds * (spends == "running"))


def waves(seed: int, services: Sequence[str], kinds: dict[FaultKind, int], lease: float) -> Iterator[Wave]:
    """Yield waves without end. ``kinds``: the faults and their weights; ``lease``: of the workers, in seconds."""
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
