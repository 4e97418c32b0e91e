"""The stripes of ``resonate tree``: what a call was seen to do, on columns of 100 ms."""

from msgspec import UNSET

from resonate_server.client.calls import Call
from resonate_server.client.stripes import SIGHTINGS_KEPT, Axis, Phase, Sighting, Sightings, legend, noted
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, TaskRecord, TaskState

AXIS = Axis(begin=0, end=1_000, width=10, ascii_only=True)


def call(state: TaskState | None = None, created_at: int = 0, settled_at: int | None = None, id: str = "a") -> Call:
    promise = Promise(
        id=id,
        state=PromiseState.PENDING if settled_at is None else PromiseState.RESOLVED,
        param=EMPTY,
        value=EMPTY,
        tags={},
        timeout_at=1_000_000,
        created_at=created_at,
        settled_at=UNSET if settled_at is None else settled_at,
    )
    task = None if state is None else TaskRecord(id=id, state=state, version=1, resumes=0)
    return Call(promise=promise, task=task, more=())


def drawn(call: Call, *sightings: Sighting) -> str:
    return AXIS.stripe(call, sightings).plain


def test_a_pending_call_lasts_until_now() -> None:
    assert drawn(call(created_at=300)) == "   ======="


def test_a_settled_call_ends_where_it_was_settled() -> None:
    assert drawn(call(created_at=300, settled_at=550)) == "   ==="


def test_what_took_no_time_is_still_seen() -> None:
    assert drawn(call(created_at=300, settled_at=300)) == "   ="
    assert drawn(call(created_at=1_000, settled_at=1_000)) == "         ="


def test_times_of_another_clock_stay_on_the_axis() -> None:
    assert drawn(call(created_at=-500, settled_at=5_000)) == "=========="


def test_each_phase_lasts_until_the_next() -> None:
    phases = Sighting(200, Phase.RUNNING), Sighting(500, Phase.WAITING), Sighting(700, Phase.RUNNING)
    assert drawn(call(), *phases) == "==###..###"


def test_the_axis_tells_its_length() -> None:
    assert AXIS.header().plain == "0    1.0 s"


def seen(*looks: tuple[int, Call]) -> Sightings:
    sightings: Sightings = {}
    for at, call in looks:
        sightings = noted(sightings, [call], at)
    return sightings


def test_a_phase_is_noted_when_it_begins_only() -> None:
    running = call(TaskState.ACQUIRED)
    sightings = seen((100, running), (200, running), (300, call(TaskState.SUSPENDED)))
    assert sightings["a"] == (Sighting(100, Phase.RUNNING), Sighting(300, Phase.SUSPENDED))


def test_what_was_before_the_first_look_is_not_known() -> None:
    sightings = seen((500, call(TaskState.ACQUIRED, created_at=0)))
    assert drawn(call(), *sightings["a"]) == "=====#####"


def test_a_call_that_is_new_since_the_last_look_did_so_from_its_beginning() -> None:
    sightings = seen((100, call()), (500, call(TaskState.PENDING, created_at=300, id="b")))
    assert sightings["b"] == (Sighting(300, Phase.WAITING),)


def test_a_settled_call_keeps_what_was_seen_of_it() -> None:
    sightings = seen((0, call(TaskState.ACQUIRED)), (900, call(TaskState.FULFILLED, settled_at=450)))
    assert drawn(call(settled_at=450), *sightings["a"]) == "#####"


def test_a_call_that_changes_hands_for_ever_does_not_fill_the_memory() -> None:
    states = [TaskState.ACQUIRED, TaskState.PENDING] * SIGHTINGS_KEPT
    assert len(seen(*((at, call(state)) for at, state in enumerate(states)))["a"]) == SIGHTINGS_KEPT


def test_the_legend_explains_what_is_in_use() -> None:
    assert (
        legend(seen((0, call(TaskState.PENDING))), ascii_only=True).plain == ". waiting for a worker   = no more known"
    )
    assert legend(seen((0, call())), ascii_only=True).plain == ""
