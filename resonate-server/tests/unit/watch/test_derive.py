"""What is told of a decision: one kind of event for each thing that may become of a promise or a task."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from unit.driver import FAR, LEASE, OTHER_PID, PID, RETRY, SECOND, START, Driver, promise_create, value

from resonate_server.protocol.records import PromiseState
from resonate_server.watch import derive
from resonate_server.watch.events import encoder


@pytest.fixture
def driver() -> Driver:
    return Driver()


def told(driver: Driver) -> list[dict[str, Any]]:
    """All events since the driver last forgot, as they stand on the wire."""
    events = [event for decided in driver.decided for event in derive.events(decided)]
    found: list[dict[str, Any]] = msgspec.json.decode(encoder.encode(events))
    return found


def kinds(driver: Driver) -> list[str]:
    return [event["kind"] for event in told(driver)]


def only(driver: Driver, kind: str) -> dict[str, Any]:
    """The one event of this kind."""
    (event,) = [event for event in told(driver) if event["kind"] == kind]
    return event


class TestPromises:
    def test_a_new_promise_is_told_with_what_it_calls(self, driver: Driver) -> None:
        call = "eyJmdW5jIjoiYmFyIiwiYXJncyI6W119"  # {"func":"bar","args":[]}
        driver.create("foo:1", param=value(call), parent="foo", origin="foo")

        created = only(driver, "promise.created")

        assert (created["id"], created["chain"], created["parent"]) == ("foo:1", "foo", "foo")
        assert (created["func"], created["group"], created["timer"]) == ("bar", "workers", False)
        assert (created["created_at"], created["timeout_at"], created["at"]) == (START, FAR, START)

    def test_a_new_step_is_told_with_the_function_that_its_worker_names(self, driver: Driver) -> None:
        create = promise_create("foo:1", target=None, parent="foo", origin="foo")
        driver.call(replace(create, tags=create.tags | {"worker:function": "charge"}))

        assert only(driver, "promise.created")["func"] == "charge"

    def test_a_promise_without_an_origin_is_a_chain_of_its_own(self, driver: Driver) -> None:
        driver.create("alone")

        assert only(driver, "promise.created")["chain"] == "alone"

    def test_a_timer_is_told_as_such_and_waits_for_no_worker(self, driver: Driver) -> None:
        driver.create("sleep", timer="true")

        assert kinds(driver) == ["promise.created"]
        assert only(driver, "promise.created")["timer"]

    def test_a_repeated_creation_is_nothing_new(self, driver: Driver) -> None:
        driver.pending("p")
        driver.create("p")

        assert told(driver) == []

    @pytest.mark.parametrize("state", [PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED])
    def test_a_settlement_is_told_with_its_readable_value(self, driver: Driver, state: PromiseState) -> None:
        driver.pending("p")
        driver.now += SECOND
        driver.settle("p", state, value("Mw=="))

        settled = only(driver, "promise.settled")

        assert (settled["state"], settled["value"]) == (state, {"text": "3", "cut": False, "bytes": 1})
        assert (settled["created_at"], settled["settled_at"]) == (START, START + SECOND)

    def test_a_deadline_is_told_at_the_time_it_is_noticed(self, driver: Driver) -> None:
        driver.create("p", timeout_at=START + SECOND)
        driver.forget_messages()
        driver.wait(2 * SECOND)

        settled = only(driver, "promise.settled")

        assert (settled["state"], settled["value"]) == ("rejected_timedout", None)
        assert (settled["settled_at"], settled["at"]) == (START + SECOND, START + 2 * SECOND)

    def test_a_promise_that_is_born_past_its_deadline_is_created_and_settled(self, driver: Driver) -> None:
        driver.create("p", timeout_at=START - 1)

        assert kinds(driver) == ["promise.created", "promise.settled"]


class TestQueued:
    def test_a_new_task_waits_because_it_was_created(self, driver: Driver) -> None:
        driver.create("t")

        queued = only(driver, "task.queued")

        assert (queued["group"], queued["version"], queued["reason"]) == ("workers", 0, "created")

    def test_a_delayed_task_waits_from_the_end_of_its_delay_on(self, driver: Driver) -> None:
        driver.create("t", delay=str(START + SECOND))
        assert kinds(driver) == ["promise.created"]

        driver.wait(SECOND)
        assert only(driver, "task.queued")["reason"] == "created"

    def test_an_unclaimed_task_is_offered_again(self, driver: Driver) -> None:
        driver.pending("t")
        driver.wait(RETRY)

        assert [(event["kind"], event["reason"]) for event in told(driver)] == [("task.queued", "retry")]

    def test_a_suspended_task_is_resumed_by_what_it_awaits_which_is_told_first(self, driver: Driver) -> None:
        driver.suspended("t", "awaited")
        driver.settle("awaited")

        assert kinds(driver) == ["promise.settled", "task.queued"]
        queued = only(driver, "task.queued")
        assert (queued["id"], queued["version"], queued["reason"]) == ("t", 1, "resumed")

    def test_a_queued_task_that_is_told_of_one_more_settlement_waits_as_before(self, driver: Driver) -> None:
        driver.suspended("t", "a", "b")
        driver.settle("a")
        driver.forget_messages()
        driver.settle("b")

        assert kinds(driver) == ["promise.settled"]

    def test_a_halted_task_is_continued(self, driver: Driver) -> None:
        driver.halted("t")
        driver.continue_("t")

        assert only(driver, "task.queued")["reason"] == "continued"


class TestAttempts:
    def test_a_claim_begins_the_attempt_of_its_version(self, driver: Driver) -> None:
        driver.pending("t")
        driver.acquire("t")

        (claimed,) = told(driver)

        assert (claimed["kind"], claimed["pid"], claimed["version"]) == ("task.claimed", PID, 1)
        assert claimed["group"] == "workers"

    def test_a_task_that_its_creator_runs_is_claimed_without_waiting(self, driver: Driver) -> None:
        driver.create_task(promise_create("t"))

        assert kinds(driver) == ["promise.created", "task.claimed"]

    def test_a_heartbeat_is_no_event(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.now += SECOND
        driver.heartbeat(("t", 1))

        assert told(driver) == []

    def test_a_suspension_tells_what_is_awaited(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.create("a", target=None)
        driver.create("b", target=None)
        driver.register_callback("b", "t")
        driver.forget_messages()
        driver.suspend("t", 1, "a", "b")

        (suspended,) = told(driver)

        assert (suspended["kind"], suspended["pid"], suspended["version"]) == ("task.suspended", PID, 1)
        assert suspended["on"] == ["a", "b"]

    def test_a_suspension_that_is_refused_because_something_has_settled_is_no_event(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.create("a", target=None)
        driver.settle("a")
        driver.forget_messages()
        driver.suspend("t", 1, "a")

        assert told(driver) == []

    def test_a_lease_that_lapses_is_a_loss(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.wait(LEASE)

        lost, queued = told(driver)

        assert (lost["kind"], lost["pid"], lost["version"], lost["reason"]) == ("task.lost", PID, 1, "lease")
        assert (queued["kind"], queued["version"], queued["reason"]) == ("task.queued", 1, "lease")

    def test_a_lease_that_is_taken_back_is_lost_because_its_holder_is_gone(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.now += SECOND
        driver.release_leases(PID)

        assert [(event["kind"], event["reason"]) for event in told(driver)] == [
            ("task.lost", "gone"),
            ("task.queued", "gone"),
        ]

    def test_a_second_attempt_that_is_given_back_is_released_although_the_first_was_lost(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.wait(LEASE)
        driver.acquire("t", 1, pid=OTHER_PID)
        driver.forget_messages()
        driver.release("t", 2)

        released, queued = told(driver)

        assert (released["kind"], released["pid"], released["version"]) == ("task.released", OTHER_PID, 2)
        assert (queued["kind"], queued["reason"]) == ("task.queued", "released")

    def test_a_task_that_is_released_again_waits_out_a_pause_first(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.release("t", 1)
        driver.acquire("t", 1)
        driver.forget_messages()
        driver.release("t", 2)
        assert kinds(driver) == ["task.released"]

        driver.wait(SECOND)
        assert only(driver, "task.queued")["reason"] == "released"

    def test_what_keeps_coming_back_is_told_with_its_trouble(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.release("t", 1)
        assert only(driver, "task.released")["trouble"] == ""
        driver.acquire("t", 1)
        driver.forget_messages()

        driver.release("t", 2)

        assert only(driver, "task.released")["trouble"] == "claimed 2 times, given back each time"

    def test_what_nobody_claims_is_told_each_time_and_offered_again(self, driver: Driver) -> None:
        driver.pending("t")
        driver.set_aside("t", 0)

        (unclaimed,) = told(driver)
        assert (unclaimed["kind"], unclaimed["group"], unclaimed["version"]) == ("task.unclaimed", "workers", 0)
        assert unclaimed["trouble"] == "handed out once, claimed by nobody"

        driver.forget_messages()
        driver.wait(5 * SECOND)
        assert only(driver, "task.queued")["reason"] == "retry"

    def test_a_halt_tells_whose_attempt_it_ended(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.halt("t")

        (halted,) = told(driver)

        assert (halted["kind"], halted["pid"], halted["version"]) == ("task.halted", PID, 1)

    def test_a_result_ends_the_attempt_by_settling_the_promise(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.fulfill("t", 1)

        (settled,) = told(driver)
        assert (settled["kind"], settled["pid"], settled["version"]) == ("promise.settled", PID, 1)

    def test_a_late_result_is_told_as_refused(self, driver: Driver) -> None:
        driver.acquired("t")
        driver.wait(LEASE)
        driver.acquire("t", 1, pid=OTHER_PID)
        driver.forget_messages()
        driver.fulfill("t", 1)

        (refused,) = told(driver)

        assert (refused["kind"], refused["id"], refused["version"]) == ("task.refused", "t", 1)
        assert refused["request"] == "task.fulfill"


@pytest.mark.parametrize(
    ("target", "group"),
    [
        ("poll://any@workers", "workers"),
        ("poll://any@workers/pid-1", "workers"),
        ("poll://uni@a%20b/pid-1", "a b"),
        ("http://host/hook", "http://host/hook"),
        ("nonsense", "nonsense"),
        (None, None),
    ],
)
def test_a_target_is_told_as_the_group_or_the_address_that_is_called(target: str | None, group: str | None) -> None:
    assert derive.group_of(target) == group
