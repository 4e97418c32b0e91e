"""The worker's clock follows the server's, whatever the machine's clock shows."""

import time

import pytest

from worker.stream import ServerClock, uptime_ms

HOUR_MS = 3_600_000


class Machine:
    """Clocks controlled by a test: ``uptime`` only advances, ``wall`` may jump."""

    def __init__(self) -> None:
        self.uptime = 5_000
        self.wall = 1_000_000
        self.clock = ServerClock(lambda: self.uptime, lambda: self.wall)

    def pass_ms(self, ms: int) -> None:
        self.uptime += ms
        self.wall += ms


def test_a_wall_clock_that_jumps_changes_nothing_once_the_server_has_sent_its_time() -> None:
    machine = Machine()
    assert machine.clock() == 1_000_000
    machine.clock.synchronise(2_000_000)
    machine.wall -= HOUR_MS
    machine.pass_ms(30_000)
    assert machine.clock() == 2_030_000


def test_a_delayed_time_message_does_not_set_the_clock_back() -> None:
    machine = Machine()
    machine.clock.start_afresh()
    machine.clock.synchronise(2_000_000)
    machine.pass_ms(10_000)
    machine.clock.synchronise(2_007_000)
    assert machine.clock() == 2_010_000


def test_a_delayed_first_time_message_is_corrected_by_the_next() -> None:
    machine = Machine()
    machine.clock.start_afresh()
    machine.clock.synchronise(1_997_000)
    machine.pass_ms(10_000)
    machine.clock.synchronise(2_010_000)
    assert machine.clock() == 2_010_000


def test_the_time_from_a_new_connection_is_used_even_if_its_server_is_behind() -> None:
    machine = Machine()
    machine.clock.synchronise(2_000_000)
    machine.clock.start_afresh()
    machine.clock.synchronise(1_500_000)
    assert machine.clock() == 1_500_000


def test_the_machine_s_times_are_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert time.time() * 1_000 - 1 <= ServerClock()() <= time.time() * 1_000 + 1
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)  # a system that does not count suspended time
    before = time.monotonic_ns() // 1_000_000
    assert before <= uptime_ms() <= time.monotonic_ns() // 1_000_000
