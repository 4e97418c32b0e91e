"""Wall time that never runs backwards within a process: section 4.5."""

import time

import pytest

from resonate_server.engine.clock import monotonic_wall_clock


@pytest.fixture
def system_ns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the system clock shows next, in ns; the last value stays."""
    shown = [5_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: shown.pop(0) if len(shown) > 1 else shown[0])
    return shown


def test_it_shows_ms_since_the_epoch(system_ns: list[int]) -> None:
    system_ns[:] = [1_700_000_000_123_999_999]

    assert monotonic_wall_clock()() == 1_700_000_000_123


def test_while_the_system_clock_is_set_back_it_stands(system_ns: list[int]) -> None:
    system_ns[:] = [5_000_000, 3_000_000, 4_000_000, 6_000_000]
    clock = monotonic_wall_clock()

    assert [clock() for _ in range(4)] == [5, 5, 5, 6]


def test_two_clocks_do_not_share_their_past(system_ns: list[int]) -> None:
    system_ns[:] = [9_000_000, 2_000_000]

    assert [monotonic_wall_clock()(), monotonic_wall_clock()()] == [9, 2]
