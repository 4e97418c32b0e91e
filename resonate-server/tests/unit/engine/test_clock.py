"""The server's time moves on steadily, whatever happens to the machine's clock."""

import pytest

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

    def start(self, mark: ClockMark | None = None, latest: int | None = None) -> ServerClock:
        return ServerClock(mark, self.machine, None if latest is None else lambda: latest)


def test_the_first_start_uses_the_machine_s_clock() -> None:
    assert Clocks().start()() == NOON


@pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS])
def test_a_machine_whose_clock_is_set_changes_nothing(jump: int) -> None:
    clocks = Clocks()
    clock = clocks.start()
    clocks.wall += jump
    clocks.pass_ms(30_000)
    assert clock() == NOON + 30_000


@pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS])
def test_after_a_restart_time_continues_as_if_the_server_had_run(jump: int) -> None:
    clocks = Clocks()
    mark = clocks.start().mark()
    clocks.pass_ms(20_000)
    clocks.wall += jump
    clock = clocks.start(mark)
    clocks.pass_ms(10_000)
    assert clock() == NOON + 30_000


@pytest.mark.parametrize(
    ("wall", "uptime", "boot", "expected"),
    [
        pytest.param(HOUR_MS, 7_000, "first", NOON, id="a restart within the same millisecond: from there"),
        pytest.param(HOUR_MS, 0, "second", NOON + HOUR_MS, id="a boot: the machine's clock counts"),
        pytest.param(-HOUR_MS, 0, "second", NOON + MARK_MS, id="a boot: not before what is stored"),
        # The same boot name but less uptime: a copy of the file from another machine, say.
        pytest.param(0, 0, "first", NOON + MARK_MS, id="a boot that was not noticed: not before what is stored"),
    ],
)
def test_from_where_time_continues_after(wall: int, uptime: int, boot: str, expected: int) -> None:
    clocks = Clocks()
    mark = clocks.start().mark()
    clocks.wall += wall
    clocks.uptime, clocks.boot = uptime, boot
    assert clocks.start(mark)() == expected


@pytest.mark.parametrize("boot", ["first", "second"])
@pytest.mark.parametrize(
    ("latest", "expected", "warned"),
    [
        pytest.param(NOON, NOON + 30_000, False, id="nothing was stored meanwhile: right again"),
        pytest.param(NOON + HOUR_MS, NOON + HOUR_MS + 1, True, id="something was: right after that"),
    ],
)
def test_a_clock_that_was_ahead_at_the_boot_and_has_been_put_right(
    boot: str, latest: int, expected: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clocks = Clocks()
    clocks.wall += 24 * HOUR_MS
    mark = clocks.start().mark()
    clocks.pass_ms(30_000)
    clocks.wall -= 24 * HOUR_MS
    clocks.boot = boot
    assert clocks.start(mark, latest)() == expected
    assert ("the server's time is 1.0 h ahead" in caplog.text) is warned


def test_a_system_that_does_not_name_its_boots_counts_as_booted() -> None:
    clocks = Clocks()
    clocks.boot = ""
    mark = clocks.start().mark()
    clocks.pass_ms(HOUR_MS)
    assert clocks.start(mark)() == NOON + HOUR_MS
