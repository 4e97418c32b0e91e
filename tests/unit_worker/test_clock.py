"""The worker's clock is the server's, whatever the clock of its machine says."""

import time

import pytest

from worker.clock import ServerClock, uptime_ms

HOUR_MS = 3_600_000


class Machine:
    """Clocks that a test turns: ``uptime`` only goes on, ``wall`` may jump."""

    def __init__(self) -> None:
        self.uptime = 5_000
        self.wall = 1_000_000
        self.clock = ServerClock(lambda: self.uptime, lambda: self.wall)

    def pass_ms(self, ms: int) -> None:
        self.uptime += ms
        self.wall += ms


def test_before_the_server_has_told_its_time_it_is_that_of_the_machine() -> None:
    assert Machine().clock() == 1_000_000


def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    machine = Machine()
    machine.clock.synchronise(2_000_000)
    machine.wall -= HOUR_MS
    machine.pass_ms(30_000)
    assert machine.clock() == 2_030_000


def test_time_that_was_told_late_does_not_set_the_clock_back() -> None:
    machine = Machine()
    machine.clock.connection_changed(True)
    machine.clock.synchronise(2_000_000)
    machine.pass_ms(10_000)
    machine.clock.synchronise(2_007_000)
    assert machine.clock() == 2_010_000


def test_time_that_was_told_late_at_first_is_put_right_by_the_next() -> None:
    machine = Machine()
    machine.clock.connection_changed(True)
    machine.clock.synchronise(1_997_000)
    machine.pass_ms(10_000)
    machine.clock.synchronise(2_010_000)
    assert machine.clock() == 2_010_000


def test_a_new_connection_counts_also_if_its_server_is_behind() -> None:
    machine = Machine()
    machine.clock.synchronise(2_000_000)
    machine.clock.connection_changed(False)
    machine.clock.connection_changed(True)
    machine.clock.synchronise(1_500_000)
    assert machine.clock() == 1_500_000


def test_where_a_system_cannot_tell_how_long_it_slept_its_time_goes_on_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    before = time.monotonic_ns() // 1_000_000
    assert before <= uptime_ms() <= time.monotonic_ns() // 1_000_000


def test_times_of_the_machine_are_in_milliseconds() -> None:
    before, up = time.time(), uptime_ms()
    time.sleep(0.05)
    assert before * 1_000 - 1 <= ServerClock()() <= time.time() * 1_000 + 1
    assert 50 <= uptime_ms() - up < 60_000
