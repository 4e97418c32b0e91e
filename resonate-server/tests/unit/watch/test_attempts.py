"""The life of a call as derived from events, from its record, and from when workers were connected."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from unit.watch import scene

from resonate_server.protocol.records import PromiseState, Role, TaskState
from resonate_server.watch.attempts import MAX_PIECES, Lives, fill_in
from resonate_server.watch.events import ChainEvent, TaskNews, What
from resonate_server.watch.views import Kind, Phase, PromiseView, TaskView

GROUP = "bar"
SINCE = 400
"""The server's memory of events begins here; promises were created at 0."""


def view(id: str = "bar", role: Role = Role.CALL, **more: Any) -> PromiseView:
    group = GROUP if role is Role.CALL else None
    made = PromiseView(id, None, group, PromiseState.PENDING, 0, None, role, None, 10_000, None, None, {}, None, [])
    return replace(made, **more)


def task(state: TaskState, attempt: int, pid: str | None = None) -> TaskView:
    return TaskView(state, attempt, pid, None, "")


def happened(kind: What, at: int, version: int = 1, **more: Any) -> TaskNews:
    return scene.task(kind, at, version, "bar", pid=f"p{version}", **more)


BORN = scene.created("bar", group=GROUP, at=0)
RAN = "born; queued 0; claimed 10"
USUALLY = {"queued": "created", "lost": "gone"}


def event(what: str, at: str = "0", version: str = "", reason: str = "") -> ChainEvent:
    """Read ``queued 40 #1 retry``: what happened, when, in which attempt, and why. ``born`` is the creation."""
    if what == "born":
        return BORN
    number = int(version.removeprefix("#") or what not in ("queued", "settled"))
    if what == "settled":
        by = f"p{number}" if version else None
        return replace(scene.settled("bar"), at=int(at), settled_at=int(at), pid=by, version=number)
    return happened(What[what.upper()], int(at), number, reason=reason or USUALLY.get(what, ""))


def events(steps: tuple[str | ChainEvent, ...]) -> Iterator[ChainEvent]:
    """``ran``: what happens until a call is claimed."""
    for step in steps:
        if isinstance(step, str):
            yield from (event(*each.split()) for each in step.replace("ran", RAN).split("; ") if each)
        else:
            yield step


def lives(*steps: str | ChainEvent) -> Lives:
    made = Lives(SINCE)
    for each in events(steps):
        made.take(each)
    return made


def fill(promises: list[PromiseView], lives: Lives, workers: str = "p1+0 p2+0") -> None:
    for _ in fill_in(scene.placed(promises), lives, scene.connections(0, workers)):
        pass


def life(*steps: str | ChainEvent, call: PromiseView | None = None, workers: str = "p1+0 p2+0") -> list[Phase]:
    call = call or view(task=task(TaskState.PENDING, 0))
    fill([call], lives(*steps), workers)
    return call.phases


def told(phases: list[Phase]) -> str:
    """Write a life as ``waiting 0-10 (created); running 10- broken``."""
    return "; ".join(
        f"{phase.kind} {phase.begin}-{'' if phase.end is None else phase.end}"
        + (f" ({phase.reason})" if phase.reason else "")
        + (" broken" if phase.broken else "")
        for phase in phases
    )


WAITED = "waiting 0-10 (created)"

BY_EVENTS = {
    "a call waits for a worker, runs, and ends when it is settled": f"ran; settled 50 | {WAITED}; running 10-50",
    "an attempt that is lost is broken and the gap lasts until the next": (
        "ran; lost 40; queued 40 #1 gone; queued 70 #1 retry; claimed 90 #2"
        f" | {WAITED}; running 10-40 broken; gap 40-90 (gone); running 90- (gone)"
    ),
    "a released task is no break": (
        f"ran; released 40; queued 40 #1 released | {WAITED}; running 10-40; waiting 40- (released)"
    ),
    "no phase begins before the one before it, whatever the clocks say": (
        "born; queued 8; claimed 5; settled 50 | waiting 8-8 (created); running 8-50"
    ),
    # Why there is another attempt: one that continues is distinguished from one that repeats work.
    "an attempt continues after waiting": (
        "ran; suspended 20; queued 40 #1 resumed; claimed 90 #2"
        f" | {WAITED}; running 10-20; suspended 20-40; waiting 40-90 (resumed); running 90- (resumed)"
    ),
    "an attempt continues after a halt": (
        "ran; halted 20; queued 40 #1 continued; claimed 90 #2"
        f" | {WAITED}; running 10-20; halted 20-40; waiting 40-90 (continued); running 90- (continued)"
    ),
    "an attempt repeats what was given back": (
        "ran; released 20; queued 40 #1 released; claimed 90 #2"
        f" | {WAITED}; running 10-20; waiting 20-90 (released); running 90- (released)"
    ),
    # An event from another server is lost: later events show that something happened.
    "an attempt after a gap counts as claimed by its first event": (
        "ran; lost 40 #1 lease; suspended 90 #2"
        f" | {WAITED}; running 10-40 broken; gap 40-90 (lease); running 90-90 (lease); suspended 90-"
    ),
    # The server's memory of events begins at 400, and the first event says what was before it.
    "it was suspended before it was resumed": (
        "queued 500 #1 resumed | unknown 0-400; suspended 400-500; waiting 500- (resumed)"
    ),
    "it waited before it was offered again": "queued 500 #0 retry | unknown 0-400; waiting 400- (retry)",
    "it waited before it was claimed": "claimed 500 | unknown 0-400; waiting 400-500; running 500-",
    "it ran before it was suspended": "suspended 500 | unknown 0-400; running 400-500; suspended 500-",
    "it ran before it was lost": "lost 500 | unknown 0-400; running 400-500 broken; gap 500- (gone)",
    "it ran before it was released": "released 500 | unknown 0-400; running 400-500; waiting 500- (released)",
    "it ran before its worker settled it": "settled 500 #1 | unknown 0-400; running 400-500",
    "nobody knows what was before others settled it": "settled 500 | unknown 0-400; unknown 400-500",
}


@pytest.mark.parametrize("row", BY_EVENTS.values(), ids=BY_EVENTS)
def test_the_life_of_a_call_by_events(row: str) -> None:
    steps, expected = row.split(" | ")
    assert told(life(steps)) == expected


GAPS = {
    "a running attempt breaks when its worker's stream breaks": (
        f"p1+0 p2+0 p1-30 | ran | {WAITED}; running 10-30 broken; gap 30- (silent)"
    ),
    "a suspended call lacks a worker while its group is empty and is then suspended again": (
        "p1+0 p1-40 p2+70 | ran; suspended 20"
        f" | {WAITED}; running 10-20; suspended 20-40 broken; gap 40-70 (absent); suspended 70-"
    ),
    "a worker killed at the moment of its claim breaks off what it claimed": (
        f"p1+0 p1-10 | ran; lost 60 | {WAITED}; running 10-10 broken; gap 10- (gone)"
    ),
    "a claim stamped by a slow clock is not taken for the end of the previous attempt": (
        "p1+0 p1-5 p1+12 | ran | waiting 0-5 (created); gap 5-12 (silent); running 12-"
    ),
    "an attempt of which nobody told broke off when its worker was killed": (
        "p1+0 p1-30 | born; queued 0; lost 60 | waiting 0-0 (created); running 0-30 broken; gap 30- (gone)"
    ),
}


@pytest.mark.parametrize("row", GAPS.values(), ids=GAPS)
def test_gaps_are_where_a_worker_was_away(row: str) -> None:
    workers, steps, expected = row.split(" | ")
    assert told(life(steps, workers=workers)) == expected


RECORDS = {
    "an attempt without events": "acquired 1 | born; queued 0 | waiting 0-0 (created); running 0-",
    "an attempt without events, and that it is suspended": (
        "suspended 1 | born; queued 0 | waiting 0-0 (created); running 0-0; suspended 0-"
    ),
    "that a call running by its events is suspended": f"suspended 1 | ran | {WAITED}; running 10-10; suspended 10-",
    "that a call is settled": f"fulfilled 1 | ran | {WAITED}; running 10-70",
    "nothing if it is older than the last event": (
        f"pending 1 | ran; suspended 20 | {WAITED}; running 10-20; suspended 20-"
    ),
    "nothing if it was read before the last event": (
        f"acquired 1 | ran; suspended 20 | {WAITED}; running 10-20; suspended 20-"
    ),
    "what a call does, if there are no events": "suspended 4 |  | unknown 0-400; suspended 400-",
    "that a call is halted": "halted 4 |  | unknown 0-400; halted 400-",
    "only the span of a call that was settled before": "fulfilled 2 |  | unknown 0-70",
}


@pytest.mark.parametrize("row", RECORDS.values(), ids=RECORDS)
def test_the_record_shows(row: str) -> None:
    (state, attempt), steps, expected = row.split()[:2], *row.split(" | ")[1:]
    call = view(task=task(TaskState(state), int(attempt), "p1"), settled_at=70 if state == "fulfilled" else None)
    assert told(life(steps, call=call)) == expected


def test_a_suspended_call_says_what_it_waits_for() -> None:
    assert life("ran", happened(What.SUSPENDED, 20, on=["baz"]))[-1].on == ["baz"]


def test_an_unclaimed_task_says_who_was_offered_it_and_what_is_wrong_until_it_is_claimed() -> None:
    sent = replace(happened(What.SENT, 5, 0), pid="p1")
    steps = ("born; queued 0", sent, happened(What.UNCLAIMED, 20, 0, trouble="nobody"))
    (waiting,) = life(*steps, "queued 40 #0 retry")
    assert (waiting.pid, waiting.trouble, waiting.reason) == ("p1", "nobody", "retry")
    assert life(*steps, "claimed 60")[-1].trouble == ""


def test_a_released_task_says_what_is_wrong_and_keeps_its_worker_s_reason_even_while_unclaimed() -> None:
    given_back = happened(What.RELEASED, 20, trouble="given back: no", why="no")
    unclaimed = happened(What.UNCLAIMED, 50, trouble="handed out once, claimed by nobody")
    assert life("ran", given_back)[-1].trouble == "given back: no"
    assert life("ran", given_back, unclaimed, "queued 60 #1 retry; claimed 90 #2")[-1].why == "no"


def test_repeated_attempts_are_counted_and_waiting_does_not_reset_the_count() -> None:
    again = (
        "lost 20; claimed 30 #2; suspended 40 #2; queued 50 #2 resumed; claimed 60 #3; released 70 #3; claimed 80 #4"
    )
    attempts = [phase for phase in life("ran", again) if phase.kind is Kind.RUNNING]
    assert [(phase.attempt, phase.retries) for phase in attempts] == [(1, 0), (2, 1), (3, 1), (4, 2)]


def test_a_gap_belongs_to_the_attempt_before_it() -> None:
    assert life("ran; lost 60", workers="p1+0 p1-10")[-1].attempt == 1


def test_earlier_attempts_are_shown_only_as_a_number() -> None:
    assert [(each.attempt, each.known) for each in life("claimed 500 #3")] == [(2, False), (2, False), (3, True)]


def test_without_events_the_worker_and_its_attempt_are_those_of_the_record() -> None:
    phase = life(call=view(task=task(TaskState.ACQUIRED, 4, "p1")))[-1]
    assert (phase.kind, phase.attempt, phase.pid, phase.known) == (Kind.RUNNING, 4, "p1", False)


def test_a_step_runs_and_breaks_with_the_call_that_it_is_a_part_of() -> None:
    call, step = view(), view("bar.1", Role.STEP, parent="bar", created_at=20)
    fill([call, step], lives("ran; lost 40 #1 lease; claimed 90 #2"))
    assert told(step.phases) == "running 20-40 broken; gap 40-90 (lease); running 90- (lease)"
    assert all(phase.step for phase in step.phases)


def test_a_step_that_no_call_runs_waits_for_somebody() -> None:
    circle = [view("a", Role.STEP, parent="b"), view("b", Role.STEP, parent="a")]
    fill(circle, lives())
    assert [told(each.phases) for each in circle] == ["waiting 0- (outside)"] * 2


def test_what_is_shown_of_many_calls_and_many_absences_is_bounded() -> None:
    comings = " ".join(f"p{n % 50}+{n * 10} p{n % 50}-{n * 10 + 5}" for n in range(2_500))
    calls = [view(f"bar{n}", task=task(TaskState.SUSPENDED, 1)) for n in range(500)]
    steps = [view(f"bar0.{n}", Role.STEP, parent="bar0") for n in range(500)]
    fill([*calls, *steps], lives(), comings)
    assert sum(len(each.phases) for each in calls + steps) < 3 * MAX_PIECES
    assert [phase.kind for phase in calls[0].phases[-2:]] == [Kind.SUSPENDED, Kind.GAP], "the latest are shown"
