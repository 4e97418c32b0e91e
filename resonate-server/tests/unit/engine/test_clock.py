"""The server's time moves on steadily, whatever happens to the machine's clock."""

from resonate_server.store.sqlite.clock import MARK_MS, ClockMark, MachineClock, ServerClock

HOUR_MS = 3_600_000
NOON = 1_700_000_000_000


class Clocks:
    """The clocks of a machine, for a test to set."""

    def __init__(self) -> None:
        self.wall = NOON
        self.uptime = 7_000
        self.boot = "first"
        self.machine = MachineClock(lambda: self.wall, lambda: self.uptime, lambda: self.boot)

    def pass_ms(self, ms: int) -> None:
        self.wall += ms
        self.uptime += ms

    def reboot(self) -> None:
        self.uptime, self.boot = 0, "second"

    def start(self, mark: ClockMark | None = None) -> ServerClock:
        return ServerClock(mark, self.machine)


def test_the_first_start_uses_the_machine_s_clock() -> None:
    assert Clocks().start()() == NOON


def test_a_machine_whose_clock_is_set_changes_nothing() -> None:
    for jump in (HOUR_MS, -HOUR_MS):
        clocks = Clocks()
        clock = clocks.start()
        clocks.wall += jump
        clocks.pass_ms(30_000)
        assert clock() == NOON + 30_000


def test_after_a_restart_time_continues_as_if_the_server_had_run() -> None:
    for jump in (HOUR_MS, -HOUR_MS):
        clocks = Clocks()
        mark = clocks.start().mark()
        clocks.pass_ms(20_000)
        clocks.wall += jump
        clock = clocks.start(mark)
        clocks.pass_ms(10_000)
        assert clock() == NOON + 30_000


def test_after_a_restart_within_the_same_millisecond_time_continues_from_there() -> None:
    clocks = Clocks()
    mark = clocks.start().mark()
    clocks.wall += HOUR_MS
    assert clocks.start(mark)() == NOON


def test_after_a_boot_the_machine_s_clock_counts() -> None:
    clocks = Clocks()
    mark = clocks.start().mark()
    clocks.pass_ms(HOUR_MS)
    clocks.reboot()
    assert clocks.start(mark)() == NOON + HOUR_MS


def test_after_a_boot_time_is_not_before_what_is_stored() -> None:
    clocks = Clocks()
    mark = clocks.start().mark()
    clocks.reboot()
    clocks.wall -= HOUR_MS
    assert clocks.start(mark)() == NOON + MARK_MS


def test_a_system_that_does_not_name_its_boots_counts_as_booted() -> None:
    clocks = Clocks()
    clocks.boot = ""
    mark = clocks.start().mark()
    clocks.pass_ms(HOUR_MS)
    assert clocks.start(mark)() == NOON + HOUR_MS


def test_a_mark_from_before_a_boot_that_was_not_noticed_is_no_reason_to_go_back() -> None:
    """The same boot name but less uptime: a copy of the file from another machine, say."""
    clocks = Clocks()
    mark = clocks.start().mark()
    clocks.uptime = 0
    assert clocks.start(mark)() == NOON + MARK_MS
