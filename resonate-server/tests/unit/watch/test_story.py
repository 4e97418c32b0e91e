"""The story of a chain that met a fault, told from the phases of its calls: one paragraph for page and terminal."""

from typing import Any

from msgspec.structs import replace
from unit.watch.scene import placed

from resonate_server.protocol.payload import Payload
from resonate_server.protocol.records import PromiseState, Role
from resonate_server.watch.absences import Outage
from resonate_server.watch.story import MAX_FAULTS, story
from resonate_server.watch.views import Kind, Phase, PromiseView

BAR = "service-bar"
OLD, NEW = "1a42a9c1e77aa", "4ed9a9c1e77aa"


def promise(id: str, begin: int, end: int | None, *phases: Phase, role: Role = Role.CALL, **more: Any) -> PromiseView:
    """Return a promise that is settled at ``end``, if given; its name is the last part of its id."""
    state = PromiseState.PENDING if end is None else PromiseState.RESOLVED
    parent, _, name = id.rpartition(".")
    view = PromiseView(
        id, name, f"service-{name}", state, begin, end, role, parent or None, 90_000, None, None, {}, None, []
    )
    return replace(view, phases=[*phases], **more)


def running(begin: int, end: int | None, pid: str = OLD, attempt: int = 1, **more: Any) -> Phase:
    return Phase(Kind.RUNNING, begin, end, attempt=attempt, pid=pid, **more)


def suspended(begin: int, end: int | None, *on: str, **more: Any) -> Phase:
    return Phase(Kind.SUSPENDED, begin, end, attempt=1, on=[*on], **more)


def gap(begin: int, end: int | None, reason: str = "gone", attempt: int = 1) -> Phase:
    return Phase(Kind.GAP, begin, end, attempt=attempt, pid=OLD, reason=reason)


FOO = promise("foo", 0, 8_000, running(0, 20, "f00f00f0"), suspended(20, 7_990, "foo.bar"))
BAZ = promise("foo.bar.baz", 30, 50, running(32, 50, "ba2ba2ba"), value=Payload("1", cut=False, bytes=1))
KILLED = (
    running(10, 1_700, broken=True),
    gap(1_700, 4_000),
    running(4_000, 7_990, NEW, attempt=2, reason="gone", retries=1),
)
WORK = promise("foo.bar.work", 100, 7_980, role=Role.STEP)
DONE = promise("foo.bar.done", 60, 90, role=Role.STEP)
SLEEP = promise("foo.bar.sleep", 100, 6_000, role=Role.TIMER)


def told(*promises: PromiseView, outages: tuple[Outage, ...] = (), refused: tuple[str, ...] = ()) -> list[str]:
    return story(placed([*promises]), [*outages], refused)


def bar(*phases: Phase, end: int | None = 7_990) -> PromiseView:
    return promise("foo.bar", 8, end, *phases)


def test_without_a_fault_there_is_nothing_to_tell() -> None:
    assert told(FOO, bar(running(10, 7_990)), BAZ) == []


def test_a_call_that_waits_for_its_first_worker_has_met_no_fault() -> None:
    assert told(bar(gap(8, None, "nobody", attempt=0), end=None)) == []


def test_a_worker_that_is_gone_for_a_moment_and_loses_nothing_is_no_fault() -> None:
    assert told(bar(suspended(10, 500, broken=True), gap(500, 900, "absent"), suspended(900, 7_990))) == []
    at_work = running(10, 500, broken=True), gap(500, 900, "silent")
    assert told(bar(*at_work, running(900, 7_990))) == told(bar(*at_work, suspended(900, 7_990))) == []
    assert told(bar(*at_work, end=900)) == []


def test_a_kill_at_work_names_who_died_what_was_kept_who_continued_what_ran_twice_and_how_long_it_took() -> None:
    assert told(FOO, bar(*KILLED), BAZ, DONE, WORK) == [
        "Worker 1a42 of service-bar was gone 1.7 s after the chain began, in the middle of bar (attempt 1).",
        "Worker 4ed9 continued bar in attempt 2, 2.3 s later.",
        "The server kept the unfinished calls of foo and bar, and baz's result 1; no call was made a second time.",
        "work, a step of bar, ran again from the beginning, because the first run had not finished.",
        "The chain was resolved after 8.0 s: for 2.3 s it had no worker and 1.6 s of work was done twice.",
    ]


def test_a_kill_during_a_sleep_breaks_nothing_off_and_costs_nothing() -> None:
    slept = bar(
        suspended(20, 1_200, SLEEP.id, broken=True),
        gap(1_200, 3_900, "absent"),
        suspended(3_900, 6_000, SLEEP.id),
        running(6_002, 7_990, NEW, attempt=2, reason="resumed"),
    )

    assert told(FOO, slept, BAZ, SLEEP) == [
        "From 1.2 s on, service-bar had no worker. bar was suspended, so nothing was interrupted.",
        "A worker was back 2.7 s later.",
        "The server kept the unfinished calls of foo and bar, and baz's result 1; no call was made a second time.",
        "No work was repeated.",
        "The chain was resolved after 8.0 s, no later than without the fault.",
    ]


def test_a_short_wait_before_it_runs_again_hides_nothing() -> None:
    late = bar(
        suspended(20, 1_200, SLEEP.id, broken=True),
        gap(1_200, 7_500, "nobody"),
        Phase(Kind.WAITING, 7_500, 7_532, attempt=1),
        running(7_532, 7_990, NEW, attempt=2, reason="resumed"),
    )
    sentences = told(FOO, late, BAZ, SLEEP)

    assert "Worker 4ed9 continued bar in attempt 2, 6.3 s later." in sentences
    assert sentences[-1] == "The chain was resolved after 8.0 s: for 1.5 s it had no worker."


def test_a_frozen_worker_is_distinguished_from_a_lost_one_and_its_late_requests_are_refused() -> None:
    frozen = bar(running(10, 6_000, broken=True), gap(6_000, 6_100, "lease"), running(6_100, 7_990, NEW, 2))
    sentences = told(FOO, frozen, refused=("foo.bar",))

    assert sentences[0] == (
        "Worker 1a42 of service-bar hung and lost its lease 6.0 s after the chain began, "
        "in the middle of bar (attempt 1)."
    )
    assert "What worker 1a42 sent too late, the result of bar, was refused." in sentences


def test_a_call_without_children_runs_again_itself() -> None:
    baz = promise("foo.bar.baz", 30, 5_000, running(32, 1_000, broken=True), gap(1_000, 4_000),
                  running(4_000, 5_000, NEW, 2, reason="gone"))  # fmt: skip
    assert "baz ran again from the beginning, because the first run had not finished." in told(FOO, bar(), baz)


def test_while_it_lasts_it_says_who_waits_for_whom_and_nothing_of_the_end() -> None:
    pending = replace(FOO, settled_at=None)
    dead = bar(running(10, 1_700, broken=True), gap(1_700, None), end=None)

    assert told(pending, dead, BAZ) == [
        "Worker 1a42 of service-bar was gone 1.7 s after the chain began, in the middle of bar (attempt 1).",
        "bar waits for a worker of service-bar.",
        "The server kept the unfinished calls of foo and bar, and baz's result 1; no call was made a second time.",
    ]


def test_a_call_without_a_worker_from_the_beginning() -> None:
    called = bar(gap(8, 5_000, "nobody", attempt=0), running(5_000, 7_990, NEW))
    assert told(FOO, called)[:2] == [
        "From 0.0 s on, service-bar had no worker for bar.",
        "Worker 4ed9 began bar 5.0 s later.",
    ]


def test_nothing_is_told_of_a_chain_that_may_not_be_seen() -> None:
    assert told(outages=(Outage(1_000, 4_200),)) == []


def test_calls_that_lose_the_same_worker_are_one_fault() -> None:
    several = [promise(f"foo.bar{n}", 8, 7_990, *KILLED, group=BAR) for n in range(9)]
    sentences = told(FOO, *several)

    assert sentences[0] == (
        "Worker 1a42 of service-bar was gone 1.7 s after the chain began, in the middle of "
        "bar0 (attempt 1), bar1 (attempt 1), bar2 (attempt 1) and 6 more."
    )
    assert sum("was gone" in sentence for sentence in sentences) == 1
    assert "for 2.3 s it had no worker" in sentences[-1], "the time that they wait counts once"


def test_only_the_first_of_many_faults_are_told() -> None:
    phases = [
        phase
        for n in range(MAX_FAULTS + 2)
        for phase in (
            running(n * 1_000, n * 1_000 + 400, attempt=n, broken=True),
            gap(n * 1_000 + 400, n * 1_000 + 1_000, attempt=n),
        )
    ]
    sentences = told(FOO, bar(*phases, running(6_000, 7_990, NEW, 7)))

    assert sum("was gone" in sentence for sentence in sentences) == MAX_FAULTS
    assert "That happened 2 more times." in sentences


def test_the_server_s_own_outage_is_reported_with_its_length() -> None:
    sentences = told(FOO, bar(running(10, 7_990)), outages=(Outage(1_000, 4_200),))
    assert sentences[0] == (
        "The server itself was away for 3.2 s, from 1.0 s after the chain began; what it had acknowledged was on disk."
    )
    assert sentences[-1] == "The chain was resolved after 8.0 s."
