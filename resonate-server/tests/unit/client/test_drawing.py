"""How ``resonate tree`` draws a chain that met a fault, and the stripes of its calls, in columns of 100 ms."""

import io

import pytest
from msgspec.structs import replace
from rich.console import Console
from unit.rows import promise

from resonate_server.client.calls import Call, Phase
from resonate_server.client.drawing import Axis, Drawing, Mark, legend
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.views import Kind

CALL = Call(promise("a"), task=None)


def drawn(story: list[str], calls: tuple[Call, ...] = (CALL,)) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=80, highlight=False, emoji=False, markup=False)
    console.print(Drawing([*calls], console, 1_000, story).whole())
    return file.getvalue().splitlines()


def test_the_story_is_a_paragraph_below_the_calls() -> None:
    assert drawn(["Worker 1a42 was gone.", "[b] went on."])[-2:] == ["", "Worker 1a42 was gone. [b] went on."]


def test_control_characters_are_visible_and_have_no_effect() -> None:
    assert "\x1b" not in "".join(drawn(["a \x1b[31m red one was gone."]))


def test_a_group_without_workers_is_named_once() -> None:
    life = [Phase("gap", 0, "nobody")]
    waits = Call(promise("a", tags={"resonate:target": "poll://any@shpo"}), task=None, phases=life)
    step = Call(promise("a.1"), task=None, phases=life)
    assert drawn([], (waits, waits, step))[-2:] == ["", "no worker of group shpo is connected"]


# ── stripes ──


AXIS = Axis(begin=0, end=1_000, width=10, ascii_only=True)


def call(*phases: tuple[str, int], begin: int = 0, end: int | None = None) -> Call:
    """Return a call that is settled at ``end``, if given."""
    made = promise("a") if end is None else promise("a", PromiseState.RESOLVED, settled_at=end)
    return Call(replace(made, created_at=begin), task=None, phases=[Phase(*phase) for phase in phases])


STRIPES = {
    "a pending call lasts until now": (call(begin=300), "   ======="),
    "a settled call ends where it was settled": (call(begin=300, end=550), "   ==="),
    "a call that took no time is still visible": (call(begin=300, end=300), "   ="),
    "even at the end of the axis": (call(begin=1_000, end=1_000), "         ="),
    "times of another clock stay on the axis": (call(begin=-500, end=5_000), "=========="),
    "each phase lasts until the next": (call(("running", 200), ("gap", 500), ("running", 700)), "==###xx###"),
    "the latest phase to begin in a column is visible": (
        call(("waiting", 0), ("running", 20), ("suspended", 40)),
        "----------",
    ),
    "a settled call keeps its life": (call(("running", 0), end=450), "#####"),
    "an unknown kind of phase is drawn as unknown": (call(("dreaming", 0), end=200), "==="),
}


@pytest.mark.parametrize(("call", "stripe"), STRIPES.values(), ids=STRIPES)
def test_the_stripe_of_a_call(call: Call, stripe: str) -> None:
    assert AXIS.stripe(call).plain == stripe


def test_every_kind_of_phase_has_a_mark() -> None:
    assert {kind.name for kind in Kind} == set(Mark.__members__)


def test_the_axis_shows_its_length() -> None:
    assert AXIS.header().plain == "0    1.0 s"


def test_the_legend_explains_the_marks_in_use() -> None:
    assert legend([call(("gap", 1), ("waiting", 0))], ascii_only=True).plain == ". waiting   x worker gone"
    assert legend([call()], ascii_only=True).plain == ""
