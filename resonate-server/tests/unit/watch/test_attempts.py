"""The life of a call as derived from events, from its record, and from when workers were connected."""

from typing import Any

import pytest
from msgspec.structs import replace
from unit.watch import scene

from resonate_server.protocol.records import PromiseState, Role, TaskState
from resonate_server.watch.attempts import MAX_PIECES, Lives, fill_in
from resonate_server.watch.events import ChainEvent, PromiseSettled, TaskNews, What
from resonate_server.watch.views import Kind, Phase, PromiseView, TaskView

GROUP = "bar"
SINCE = 400
"""The server's memory of events begins here; promises were created at 0."""

WAITING, RUNNING, SUSPENDED, GAP, UNKNOWN = Kind.WAITING, Kind.RUNNING, Kind.SUSPENDED, Kind.GAP, Kind.UNKNOWN


def view(id: str = "bar", role: Role = Role.CALL, **more: Any) -> PromiseView:
    group = GROUP if role is Role.CALL else None
    made = PromiseView(id, None, group, PromiseState.PENDING, 0, None, role, None, 10_000, None, None, {}, None, [])
    return replace(made, **more)


def task(state: TaskState, attempt: int, pid: str | None = None) -> TaskView:
    return TaskView(state, attempt, pid, None, "")


def happened(kind: What, at: int, version: int = 1, **more: Any) -> TaskNews:
    return scene.task(kind, at, version, "bar", pid=f"p{version}", **more)


def queued(at: int, reason: str = "created", version: int = 0) -> TaskNews:
    return happened(What.QUEUED, at, version, reason=reason)


def claimed(at: int, version: int = 1) -> TaskNews:
    return happened(What.CLAIMED, at, version)


def suspended(at: int, *on: str) -> TaskNews:
    return happened(What.SUSPENDED, at, on=[*on])


def lost(at: int, reason: str = "gone") -> TaskNews:
    return happened(What.LOST, at, reason=reason)


def released(at: int, trouble: str = "", why: str = "") -> TaskNews:
    return happened(What.RELEASED, at, trouble=trouble, why=why)


def settled(at: int) -> PromiseSettled:
    return replace(scene.settled("bar"), at=at, settled_at=at)


BORN = scene.created("bar", group=GROUP, at=0)
RAN = (BORN, queued(0), claimed(10))


def lives(*events: ChainEvent) -> Lives:
    made = Lives(SINCE)
    for event in events:
        made.take(event)
    return made


def fill(promises: list[PromiseView], lives: Lives, workers: str = "p1+0 p2+0") -> None:
    for _ in fill_in(scene.placed(promises), lives, scene.connections(0, workers)):
        pass


def life(*events: ChainEvent, call: PromiseView | None = None, workers: str = "p1+0 p2+0") -> list[Phase]:
    call = call or view(task=task(TaskState.PENDING, 0))
    fill([call], lives(*events), workers)
    return call.phases


def spans(phases: list[Phase]) -> list[tuple[Kind, int, int | None]]:
    return [(phase.kind, phase.begin, phase.end) for phase in phases]


class TestByEvents:
    def test_a_call_waits_for_a_worker_runs_and_ends_when_its_promise_is_settled(self) -> None:
        assert spans(life(*RAN, settled(50))) == [(WAITING, 0, 10), (RUNNING, 10, 50)]

    def test_a_suspended_call_says_what_it_waits_for(self) -> None:
        assert life(*RAN, suspended(20, "baz"))[-1].on == ["baz"]

    def test_an_attempt_that_is_lost_is_broken_and_the_gap_lasts_until_the_next(self) -> None:
        _, first, gap, second = life(*RAN, lost(40), queued(40, "gone", 1), queued(70, "retry", 1), claimed(90, 2))
        assert (first.attempt, first.broken, second.attempt, second.broken) == (1, True, 2, False)
        assert (gap.kind, gap.begin, gap.end, gap.reason) == (GAP, 40, 90, "gone")

    def test_a_released_task_is_no_break(self) -> None:
        _, running, waiting = life(*RAN, released(40, "given back each time"), queued(40, "released", 1))
        assert (running.broken, waiting.kind, waiting.reason) == (False, WAITING, "released")
        assert waiting.trouble == "given back each time"

    def test_an_unclaimed_task_says_who_was_offered_it_and_what_is_wrong_until_it_is_claimed(self) -> None:
        sent = replace(happened(What.SENT, 5, 0), pid="p1")
        told = (sent, happened(What.UNCLAIMED, 20, 0, trouble="nobody"))
        (waiting,) = life(BORN, queued(0), *told, queued(40, "retry"))
        assert (waiting.pid, waiting.trouble, waiting.reason) == ("p1", "nobody", "retry")
        assert life(BORN, queued(0), *told, claimed(60))[-1].trouble == ""

    def test_no_phase_begins_before_the_one_before_it_whatever_the_clocks_say(self) -> None:
        assert spans(life(BORN, queued(8), claimed(5), settled(50))) == [(WAITING, 8, 8), (RUNNING, 8, 50)]


class TestWhyThereIsAnotherAttempt:
    """An attempt that continues is distinguished from one that repeats work."""

    @pytest.mark.parametrize(
        ("ended", "reason", "retries"),
        [
            pytest.param(suspended(20, "baz"), "resumed", 0, id="after waiting"),
            pytest.param(happened(What.HALTED, 20), "continued", 0, id="after a halt"),
            pytest.param(lost(20), "gone", 1, id="worker gone"),
            pytest.param(lost(20, "lease"), "lease", 1, id="lease ended"),
            pytest.param(released(20), "released", 1, id="given back"),
        ],
    )
    def test_the_end_of_the_last_attempt_gives_the_reason(self, ended: ChainEvent, reason: str, retries: int) -> None:
        phase = life(*RAN, ended, queued(40, reason, 1), claimed(90, 2))[-1]
        assert (phase.attempt, phase.reason, phase.retries) == (2, reason, retries)

    def test_a_released_task_keeps_its_worker_s_reason_even_while_unclaimed(self) -> None:
        unclaimed = happened(What.UNCLAIMED, 50, trouble="handed out once, claimed by nobody")
        phase = life(*RAN, released(20, "given back: no", "no"), unclaimed, queued(60, "retry", 1), claimed(90, 2))[-1]
        assert (phase.reason, phase.why) == ("released", "no")

    def test_repeated_attempts_are_counted_and_waiting_does_not_reset_the_count(self) -> None:
        again = (lost(20), claimed(30, 2), suspended(40, "baz"), queued(50, "resumed", 2), claimed(60, 3))
        assert [phase.retries for phase in life(*RAN, *again) if phase.kind is RUNNING] == [0, 1, 1]


class TestGaps:
    def test_a_running_attempt_breaks_when_its_worker_s_stream_breaks(self) -> None:
        phases = life(*RAN, workers="p1+0 p2+0 p1-30")
        assert spans(phases) == [(WAITING, 0, 10), (RUNNING, 10, 30), (GAP, 30, None)]
        assert (phases[1].broken, phases[2].reason) == (True, "silent")

    def test_a_suspended_call_lacks_a_worker_while_its_group_is_empty_and_is_then_suspended_again(self) -> None:
        phases = life(*RAN, suspended(20), workers="p1+0 p1-40 p2+70")
        assert spans(phases)[2:] == [(SUSPENDED, 20, 40), (GAP, 40, 70), (SUSPENDED, 70, None)]
        assert ([phase.broken for phase in phases[2:]], phases[3].reason) == ([True, False, False], "absent")

    def test_a_worker_killed_at_the_moment_of_its_claim_breaks_off_what_it_claimed(self) -> None:
        phases = life(*RAN, lost(60), workers="p1+0 p1-10")
        assert spans(phases) == [(WAITING, 0, 10), (RUNNING, 10, 10), (GAP, 10, None)]
        assert (phases[1].broken, phases[2].reason, phases[2].attempt) == (True, "gone", 1)

    def test_a_claim_stamped_by_a_slow_clock_is_not_taken_for_the_end_of_the_previous_attempt(self) -> None:
        """Its worker had reconnected to another server by then."""
        assert spans(life(*RAN, workers="p1+0 p1-5 p1+12")) == [(WAITING, 0, 5), (GAP, 5, 12), (RUNNING, 12, None)]


class TestWhatNobodyHasTold:
    """An event from another server is lost: later events, or the record, show that something happened."""

    def test_an_attempt_held_by_a_killed_worker_broke_off_then(self) -> None:
        phases = life(BORN, queued(0), lost(60), workers="p1+0 p1-30")
        assert spans(phases) == [(WAITING, 0, 0), (RUNNING, 0, 30), (GAP, 30, None)]
        assert phases[1].broken

    def test_an_attempt_after_a_gap_counts_as_claimed_by_its_first_event(self) -> None:
        again = happened(What.SUSPENDED, 90, 2)
        assert spans(life(*RAN, lost(40), again))[2:] == [(GAP, 40, 90), (RUNNING, 90, 90), (SUSPENDED, 90, None)]

    @pytest.mark.parametrize(
        ("state", "kinds"),
        [(TaskState.ACQUIRED, [WAITING, RUNNING]), (TaskState.SUSPENDED, [WAITING, RUNNING, SUSPENDED])],
    )
    def test_the_record_shows_an_attempt_without_events(self, state: TaskState, kinds: list[Kind]) -> None:
        phases = life(BORN, queued(0), call=view(task=task(state, 1, "p1")))
        assert [phase.kind for phase in phases] == kinds
        assert phases[1].attempt == 1

    def test_the_record_shows_that_a_call_running_by_its_events_is_suspended(self) -> None:
        assert life(*RAN, call=view(task=task(TaskState.SUSPENDED, 1)))[-1].kind is SUSPENDED

    def test_the_record_shows_that_the_call_is_settled(self) -> None:
        call = view(task=task(TaskState.FULFILLED, 1), state=PromiseState.RESOLVED, settled_at=70)
        assert spans(life(*RAN, call=call)) == [(WAITING, 0, 10), (RUNNING, 10, 70)]

    @pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.ACQUIRED])
    def test_a_record_older_than_the_last_event_adds_nothing(self, state: TaskState) -> None:
        call = view(task=task(state, 1, "p1"))
        assert [phase.kind for phase in life(*RAN, suspended(20), call=call)] == [WAITING, RUNNING, SUSPENDED]


class TestByRecord:
    """What happened before the server's memory of events begins."""

    def test_earlier_attempts_are_shown_only_as_a_number(self) -> None:
        phases = life(claimed(500, 3))
        assert [(phase.kind, phase.attempt, phase.known) for phase in phases] == [
            (UNKNOWN, 2, False),
            (WAITING, 2, False),
            (RUNNING, 3, True),
        ]

    @pytest.mark.parametrize(
        ("event", "kind"),
        [
            (queued(500, "resumed", 1), SUSPENDED),
            (queued(500, "retry"), WAITING),
            (claimed(500), WAITING),
            (suspended(500), RUNNING),
            (lost(500), RUNNING),
            (released(500), RUNNING),
            (replace(settled(500), pid="p1", version=1), RUNNING),
            (settled(500), UNKNOWN),
        ],
    )
    def test_the_first_event_says_what_was_before_it(self, event: ChainEvent, kind: Kind) -> None:
        first, second, *_ = spans(life(event))
        assert first == (UNKNOWN, 0, SINCE)
        assert second[:2] == (kind, SINCE)

    @pytest.mark.parametrize(
        ("state", "kind"),
        [(TaskState.ACQUIRED, RUNNING), (TaskState.SUSPENDED, SUSPENDED), (TaskState.HALTED, Kind.HALTED)],
    )
    def test_without_events_the_task_shows_the_current_phase(self, state: TaskState, kind: Kind) -> None:
        phases = life(call=view(task=task(state, 4, "p1")))
        assert spans(phases) == [(UNKNOWN, 0, SINCE), (kind, SINCE, None)]
        assert (phases[1].attempt, phases[1].pid, phases[1].known) == (4, "p1", False)

    def test_without_events_a_settled_call_shows_only_its_span(self) -> None:
        call = view(task=task(TaskState.FULFILLED, 2), state=PromiseState.RESOLVED, settled_at=70)
        assert spans(life(call=call)) == [(UNKNOWN, 0, 70)]


class TestOthers:
    def test_a_step_runs_and_breaks_with_the_call_that_it_is_a_part_of(self) -> None:
        call, step = view(), view("bar.1", Role.STEP, parent="bar", created_at=20)
        fill([call, step], lives(*RAN, lost(40, "lease"), claimed(90, 2)))
        assert spans(step.phases) == [(RUNNING, 20, 40), (GAP, 40, 90), (RUNNING, 90, None)]
        assert [phase.broken for phase in step.phases] == [True, False, False]
        assert all(phase.step for phase in step.phases)

    def test_a_step_that_no_call_runs_waits_for_somebody(self) -> None:
        circle = [view("a", Role.STEP, parent="b"), view("b", Role.STEP, parent="a")]
        fill(circle, lives())
        assert [spans(each.phases) for each in circle] == [[(WAITING, 0, None)]] * 2

    def test_what_is_shown_of_many_calls_and_many_absences_is_bounded(self) -> None:
        comings = " ".join(f"p{n % 50}+{n * 10} p{n % 50}-{n * 10 + 5}" for n in range(2_500))
        calls = [view(f"bar{n}", task=task(TaskState.SUSPENDED, 1)) for n in range(500)]
        steps = [view(f"bar0.{n}", Role.STEP, parent="bar0") for n in range(500)]
        fill([*calls, *steps], lives(), comings)
        assert sum(len(each.phases) for each in calls + steps) < 3 * MAX_PIECES
        assert [phase.kind for phase in calls[0].phases[-2:]] == [SUSPENDED, GAP], "the latest are shown"
