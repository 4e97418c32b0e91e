"""The ring: numbers without gaps, and bounded memory whatever happens."""

import pytest
from unit.watch.scene import gone, settled

from resonate_server.watch.ring import Ring


def numbers(ring: Ring, after: int = 0, limit: int = 100) -> list[int]:
    return [event.seq for event in ring.after(after, limit)]


@pytest.mark.parametrize(
    ("count", "asked", "found"),
    [
        pytest.param(3, {}, [1, 2, 3], id="events are numbered from 1 on"),
        pytest.param(25, {}, [*range(16, 26)], id="the oldest are forgotten"),
        pytest.param(25, {"after": 18}, [*range(19, 26)], id="events after a number are found across the wrap-around"),
        pytest.param(25, {"after": 18, "limit": 2}, [19, 20], id="no more events than requested are given"),
    ],
)
def test_events_of_a_ring_of_ten(count: int, asked: dict[str, int], found: list[int]) -> None:
    ring = Ring(max_events=10)
    for _ in range(count):
        ring.append(gone())
    assert numbers(ring, **asked) == found


def test_events_of_a_chain_are_found_as_long_as_they_are_kept() -> None:
    ring = Ring(max_events=3)
    for chain in ("a", "b", "a", "b", "a"):
        ring.append(settled(f"{chain}:1", chain=chain))
    assert [[event.seq for event in ring.of(chain)] for chain in ("a", "b", "c")] == [[3, 5], [4], []]


def test_chains_without_kept_events_take_no_memory_in_the_end() -> None:
    ring = Ring(max_events=3)
    for number in range(100):
        ring.append(settled(f"chain-{number}"))
        assert [event.seq for event in ring.of(f"chain-{number}")] == [number + 1]
        assert ring.of(f"chain-{number - 3}") == []
    assert len(ring._chains) < 10


def test_payloads_are_bounded_whatever_their_size() -> None:
    ring = Ring(max_events=1_000, max_weight=30_000)
    for number in range(100):
        ring.append(settled(f"p-{number}", "x" * 1_000_000))
    assert numbers(ring) == [98, 99, 100]
