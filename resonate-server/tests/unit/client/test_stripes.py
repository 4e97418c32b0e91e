"""The stripes of ``resonate tree``: the life of a call, in columns of 100 ms."""

from msgspec import UNSET

from resonate_server.client.calls import Call, Phase
from resonate_server.client.stripes import Axis, Mark, legend
from resonate_server.protocol.records import EMPTY, Promise, PromiseState
from resonate_server.watch.views import Kind

AXIS = Axis(begin=0, end=1_000, width=10, ascii_only=True)


def call(*phases: Phase, created_at: int = 0, settled_at: int | None = None) -> Call:
    promise = Promise(
        id="a",
        state=PromiseState.PENDING if settled_at is None else PromiseState.RESOLVED,
        param=EMPTY,
        value=EMPTY,
        tags={},
        timeout_at=1_000_000,
        created_at=created_at,
        settled_at=UNSET if settled_at is None else settled_at,
    )
    return Call(promise=promise, task=None, more=(), phases=[*phases])


def drawn(call: Call) -> str:
    return AXIS.stripe(call).plain


def test_a_pending_call_lasts_until_now() -> None:
    assert drawn(call(created_at=300)) == "   ======="


def test_a_settled_call_ends_where_it_was_settled() -> None:
    assert drawn(call(created_at=300, settled_at=550)) == "   ==="


def test_a_call_that_took_no_time_is_still_visible() -> None:
    assert drawn(call(created_at=300, settled_at=300)) == "   ="
    assert drawn(call(created_at=1_000, settled_at=1_000)) == "         ="


def test_times_of_another_clock_stay_on_the_axis() -> None:
    assert drawn(call(created_at=-500, settled_at=5_000)) == "=========="


def test_each_phase_lasts_until_the_next() -> None:
    assert drawn(call(Phase("running", 200), Phase("gap", 500), Phase("running", 700))) == "==###xx###"


def test_the_latest_phase_to_begin_in_a_column_is_visible() -> None:
    assert drawn(call(Phase("waiting", 0), Phase("running", 20), Phase("suspended", 40))) == "----------"


def test_a_settled_call_keeps_its_life() -> None:
    assert drawn(call(Phase("running", 0), settled_at=450)) == "#####"


def test_an_unknown_kind_of_phase_is_drawn_as_unknown() -> None:
    assert drawn(call(Phase("dreaming", 0), settled_at=200)) == "==="


def test_every_kind_of_phase_has_a_mark() -> None:
    assert {kind.name for kind in Kind} == set(Mark.__members__)


def test_the_axis_shows_its_length() -> None:
    assert AXIS.header().plain == "0    1.0 s"


def test_the_legend_explains_the_marks_in_use() -> None:
    assert legend([call(Phase("gap", 1), Phase("waiting", 0))], ascii_only=True).plain == ". waiting   x worker gone"
    assert legend([call()], ascii_only=True).plain == ""
