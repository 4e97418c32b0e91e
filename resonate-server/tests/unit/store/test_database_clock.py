"""The database's time as a server estimates it between two readings: never earlier than it was, nor later than it can
be."""

import pytest

from resonate_server.store.postgres.database_clock import STEP_MS, DatabaseClock

BEGIN = 1_700_000_000_000


class Machine:
    """A server's machine; its clock was set when it had been up for 1 s."""

    def __init__(self) -> None:
        self.uptime = 1_000
        self.clock = DatabaseClock(lambda: self.uptime)
        self.clock.begin(BEGIN)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_time_passes_between_two_readings(machine: Machine) -> None:
    machine.uptime += 70
    assert machine.clock() == BEGIN + 70


@pytest.mark.parametrize("took", [0, 5, 5_000])
def test_the_clock_is_never_behind_a_reading_of_the_database(machine: Machine, took: int) -> None:
    machine.clock.measured(BEGIN + 30, took)
    assert machine.clock() == BEGIN + 30


@pytest.mark.parametrize("took", [10, 90, 5_000])
def test_a_slow_answer_does_not_set_the_clock_back(machine: Machine, took: int) -> None:
    """It gives a past time, and so tells nothing new."""
    machine.clock.measured(BEGIN - took, took)
    machine.uptime += 1
    assert machine.clock() == BEGIN + 1


def test_the_clock_waits_for_the_database_s_if_that_is_certainly_behind(machine: Machine) -> None:
    assert machine.clock() == BEGIN
    machine.clock.measured(BEGIN - 50, took=10)
    assert machine.clock() == BEGIN
    machine.uptime += 45
    assert machine.clock() == BEGIN + 5


def test_the_clock_does_not_follow_one_that_was_set_back(machine: Machine) -> None:
    machine.clock.measured(BEGIN - STEP_MS - 1, took=0)
    machine.uptime += 1
    assert machine.clock() == BEGIN + 1
