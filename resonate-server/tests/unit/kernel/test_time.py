"""What happens without a request as time passes: sections 4.1 to 4.3, and section 9, items 1, 2, 7 and 14."""

from collections.abc import Callable

import pytest
from msgspec import UNSET
from unit.driver import FAR, HOUR, LEASE, RETRY, START, TARGET, Driver, promise_create, promise_settle, value
from unit.rows import transaction
from unit.stories import happen

from resonate_server.kernel.model import Due, Rules
from resonate_server.protocol.records import EMPTY, PromiseState
from resonate_server.protocol.requests import MAX_INTEGER, PromiseCreate, PromiseGet, PromiseSettle, Request

# --- 4.1 promise deadlines ------------------------------------------------------------------------------------------


EXTERNAL = {
    "target": {"resonate:target": TARGET},
    "timer": {"resonate:timer": "true"},
    "external": {"resonate:external": "true"},
    "global": {"resonate:scope": "global"},
}
INTERNAL = {
    "no tag": {},
    "local": {"resonate:scope": "local"},
    "timer False": {"resonate:timer": "false"},
    "timer True": {"resonate:timer": "True"},
    "timer empty": {"resonate:timer": ""},
    "external False": {"resonate:external": "false"},
}


@pytest.mark.parametrize("also", [{}, *EXTERNAL.values(), *INTERNAL.values()], ids=str)
@pytest.mark.parametrize("tags", EXTERNAL.values(), ids=EXTERNAL)
def test_an_external_promise_settles_at_its_deadline(
    server: Driver, tags: dict[str, str], also: dict[str, str]
) -> None:
    """The [MUST] of 4.1: even promises without a target. A timer resolves, whatever else it is."""
    tags = {**also, **tags}
    server.call(PromiseCreate(id="p", timeout_at=START + 10, tags=tags))
    server.wait(10)
    promise = server.promise("p")
    is_timer = tags.get("resonate:timer") == "true"
    assert promise.state is (PromiseState.RESOLVED if is_timer else PromiseState.TIMEDOUT)


@pytest.mark.parametrize("tags", INTERNAL.values(), ids=INTERNAL)
def test_the_deadline_of_an_internal_promise_is_no_alarm(server: Driver, tags: dict[str, str]) -> None:
    server.call(PromiseCreate(id="p", timeout_at=START + 10, tags=tags))
    with transaction(server.store):
        assert server.store.next_due() is None
    server.wait(10)
    assert server.promise("p").state is PromiseState.PENDING


INTERNAL_PROMISE = promise_create("p", target=None, timeout_at=START + 10, external="false")
SETTLEMENT = promise_settle("p", result=value("late"))


@pytest.mark.parametrize("asked", [PromiseGet("p"), INTERNAL_PROMISE, SETTLEMENT], ids=lambda request: request.kind)
@pytest.mark.parametrize("is_fenced", [False, True])
def test_an_internal_promise_reads_as_settled_from_its_deadline_on(
    server: Driver, asked: Request, is_fenced: bool
) -> None:
    server.acquired("t", ttl=2 * HOUR)
    server.call(INTERNAL_PROMISE)
    server.now += 9
    assert server.get("p").data.promise.state is PromiseState.PENDING
    server.now += HOUR
    if is_fenced and isinstance(asked, PromiseCreate | PromiseSettle):
        after = server.fence("t", 1, asked).data.action.data.promise
    else:
        after = server.call(asked).data.promise
    assert (after.state, after.settled_at, after.value) == (PromiseState.TIMEDOUT, START + 10, EMPTY)


@pytest.mark.parametrize("by_sweep", [True, False])
def test_expiry_is_dated_at_the_deadline_however_late_it_is_noticed(server: Driver, by_sweep: bool) -> None:
    server.create("p", target=None, timeout_at=START + 10, param=value("x"))
    server.now += HOUR
    if by_sweep:
        server.tick()
    promise = server.get("p").data.promise
    assert (promise.settled_at, promise.value, promise.param) == (START + 10, EMPTY, value("x"))


def test_due_work_is_checked_again_before_it_is_done(server: Driver) -> None:
    """Section 9, item 2."""
    server.create("p", timeout_at=START + 10)
    before = (server.promise("p"), server.task("p"))
    server.forget_messages()
    server.tick(Due(promises=("p", "gone"), tasks=("p", "gone")))
    assert (server.promise("p"), server.task("p")) == before
    assert not server.sent


# --- 4.2 task timers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", ["create t", "acquired t; release t 1", "halted t; continue_ t"])
def test_a_retry_timeout_without_end_is_the_last_time_that_can_be_stored(begin: str) -> None:
    server = Driver(rules=Rules(retry_timeout_ms=MAX_INTEGER))
    assert happen(server, begin) == 200
    assert server.task("t").timer_at == MAX_INTEGER


@pytest.mark.parametrize("before", ["pending t", "acquire t"])
def test_a_task_whose_promise_is_past_its_deadline_is_not_sent_again(server: Driver, before: str) -> None:
    """The task's promise and its timer may be in different portions of due work, because portions are limited."""
    happen(server, f"create t by+{LEASE}; {before}; forget; later {RETRY}")
    server.tick(Due(tasks=("t",)))

    assert server.take_executes() == []
    assert server.leases_lost() == []


# --- section 9 ------------------------------------------------------------------------------------------------------


def pauses(server: Driver, times: int, give_up: Callable[[Driver], None]) -> list[int]:
    """Return the ms from each time that task ``t`` is given up to the next dispatch."""
    seen = []
    for _ in range(times):
        server.forget_messages()
        give_up(server)
        began = server.now
        while not server.take_executes():
            server.now = server.task("t").timer_at or FAR
            server.tick()
        seen.append(server.now - began)
    return seen


def leave_unclaimed(server: Driver) -> None:
    server.set_aside("t", server.task("t").version)


def claim_and_release(server: Driver, reason: str | None = None) -> None:
    version = server.task("t").version
    server.acquire("t", version)
    server.release("t", version + 1, reason)


class TestPauseWhenNobodyClaims:
    def test_it_is_dispatched_after_a_pause_that_doubles_up_to_a_cap(self, server: Driver) -> None:
        server.create("t")
        assert pauses(server, 5, leave_unclaimed) == [5_000, 10_000, 20_000, 30_000, 30_000]

    def test_the_pause_does_not_overflow(self, server: Driver) -> None:
        server.create("t")
        assert pauses(server, 100, leave_unclaimed)[-1] == 30_000

    def test_the_count_is_shown_on_request_and_reset_by_a_claim(self, server: Driver) -> None:
        server.create("t")
        pauses(server, 3, leave_unclaimed)
        record = server.get_task("t").data.task
        assert (record.unclaimed, record.trouble) == (3, "handed out 3 times, claimed by nobody")

        answer = server.acquire("t")
        server.release("t", 1)
        assert (answer.data.task.unclaimed, server.get_task("t").data.task.unclaimed) == (UNSET, UNSET)
        assert pauses(server, 1, leave_unclaimed) == [5_000]

    def test_a_worker_that_connects_ends_the_pause_but_not_the_count(self, server: Driver) -> None:
        happen(server, "create t; set_aside t 0; forget; recall others")
        assert server.take_executes() == []
        happen(server, "recall workers; recall workers")

        assert server.take_executes() == [("t", 0)]
        assert pauses(server, 1, leave_unclaimed) == [10_000]

    def test_a_task_that_has_moved_on_is_left_alone(self, server: Driver) -> None:
        happen(server, "create t; acquire t; release t 1")
        before = server.task("t")
        happen(server, "set_aside t 0; set_aside unknown 0")
        assert server.task("t") == before


class TestPauseAfterRelease:
    """Section 9, item 1: a task that no worker can run must not circulate at full speed."""

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            (Rules(), [0, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]),
            (Rules(release_pause_ms=1_000, release_pause_max_ms=3_000), [0, 1_000, 2_000, 3_000, 3_000]),
        ],
        ids=["by default", "as configured"],
    )
    def test_the_first_release_dispatches_at_once_and_the_next_ones_after_a_doubling_pause_up_to_a_cap(
        self, server: Driver, rules: Rules, expected: list[int]
    ) -> None:
        server.rules = rules
        server.create("t")
        assert pauses(server, len(expected), claim_and_release) == expected

    def test_the_last_reason_that_a_worker_gives_is_shown_on_request(self, server: Driver) -> None:
        server.create("t")
        seen = []
        for reason in ("no such function", "no database", None):
            claim_and_release(server, reason)
            record = server.get_task("t").data.task
            seen.append((record.reason, record.trouble))

        assert seen[:2] == [
            ("no such function", "given back: no such function"),
            ("no database", "claimed 2 times, given back each time: no database"),
        ]
        assert seen[2][0] is UNSET

    def test_a_long_reason_is_cut(self, server: Driver) -> None:
        server.create("t")
        claim_and_release(server, "x" * 501)
        assert server.get_task("t").data.task.reason == "x" * 499 + "…"

    def test_workers_do_not_see_the_count(self, server: Driver) -> None:
        """Typed SDKs parse the record in the answer to a claim."""
        server.create("t")
        claim_and_release(server)
        assert server.acquire("t", 1).data.task.releases is UNSET
