"""A recorded chain: what each of its requests waits for, and what that means when it is sent again."""

from typing import Any

import pytest

from bench.replay.machine import Plan, Run
from bench.replay.tap import Exchange
from bench.replay.template import (
    CHAIN_FILE,
    CORR_ID,
    PAUSED_CHAIN_FILE,
    ROOT,
    Message,
    Step,
    Template,
    WentAnotherWay,
    load,
    template_of,
)

OK = {"head": {"status": 200}}
BEGAN_AT_MS = 1_000


def step(*after: int, on: Message | None = None) -> Step:
    return Step("service-foo", {}, list(after), on)


def run_of(*steps: Step, ends_on: Message | None = None) -> Run:
    return Run("foo-1", Plan.of(Template(list(steps), ends_on)))


class TestMachine:
    def test_a_request_waits_for_the_answers_it_depends_on(self) -> None:
        run = run_of(step(), step(0), step(0, 1))

        assert run.begin() == [0]
        assert run.answered(0) == [1]
        assert run.answered(1) == [2]

    def test_answers_may_come_in_any_order(self) -> None:
        run = run_of(step(), step(), step(0, 1))
        run.begin()

        assert run.answered(1) == []
        assert run.answered(0) == [2]

    def test_a_request_waits_for_its_message(self) -> None:
        run = run_of(step(), step(on=Message(":1", 0)))
        run.begin()

        assert run.answered(0) == []
        assert run.heard(Message(":1", 1)) == []
        assert run.heard(Message(":1", 0)) == [1]

    def test_a_message_that_comes_twice_sends_nothing_twice(self) -> None:
        run = run_of(step(), step(on=Message(":1", 0)))
        run.heard(Message(":1", 0))

        assert run.heard(Message(":1", 0)) == []

    def test_a_chain_is_over_when_all_is_answered_and_the_result_was_told(self) -> None:
        run = run_of(step(), ends_on=Message(""))

        run.answered(0)
        assert not run.is_over
        run.heard(Message(""))
        assert run.is_over

    def test_a_chain_that_was_not_recorded_to_its_end_is_over_with_its_last_answer(self) -> None:
        run = run_of(step())

        run.answered(0)
        assert run.is_over


def exchange(kind: str, sent_at: float, answered_at: float, answer: Any = OK, **data: Any) -> Exchange:
    request = {"kind": kind, "head": {"corrId": f"sr-{sent_at}"}, "data": data}
    return Exchange(sent_at, answered_at, request, answer)


def message(at: float, id: str, version: int) -> Exchange:
    return Exchange(at, at, {"kind": "execute", "data": {"task": {"id": id, "version": version}}}, is_message=True)


def creation(id: str, group: str) -> dict[str, Any]:
    return {"data": {"id": id, "timeoutAt": 61_000, "tags": {"resonate:target": f"poll://any@{group}"}}}


ROOT_ID = "foo-00000000000000aa"
EXCHANGES = [
    exchange("task.create", 0, 1, pid="11", action=creation(ROOT_ID, "service-foo")),
    exchange("task.heartbeat", 1.5, 9, pid="11", tasks=[{"id": ROOT_ID, "version": 1}]),
    exchange("task.fence", 2, 3, id=ROOT_ID, action=creation(f"{ROOT_ID}:1", "service-bar")),
    message(3, f"{ROOT_ID}:1", 0),
    exchange("task.suspend", 4, 6, id=ROOT_ID, actions=[{"data": {"awaited": f"{ROOT_ID}:1"}}]),
    exchange("task.acquire", 5, 7, id=f"{ROOT_ID}:1", version=0, pid="22"),
    exchange("task.fulfill", 8, 10, id=f"{ROOT_ID}:1", action={"data": {"id": f"{ROOT_ID}:1"}}),
]


class TestTemplate:
    def test_steps_of_a_task_follow_each_other_and_nothing_waits_for_a_heartbeat(self) -> None:
        steps = template_of(EXCHANGES, BEGAN_AT_MS).steps

        assert [each.after for each in steps[:4]] == [[], [0], [0], [2]]

    def test_a_claim_waits_for_its_message_alone(self) -> None:
        claim = template_of(EXCHANGES, BEGAN_AT_MS).steps[4]

        assert (claim.after, claim.on) == ([], Message(":1", 0))

    def test_a_result_waits_for_who_suspended_on_it(self) -> None:
        assert template_of(EXCHANGES, BEGAN_AT_MS).steps[5].after == [3, 4]

    def test_each_step_belongs_to_the_worker_that_its_task_is_addressed_to(self) -> None:
        workers = [each.worker for each in template_of(EXCHANGES, BEGAN_AT_MS).steps]

        assert workers == [*["service-foo"] * 4, *["service-bar"] * 2]

    def test_ids_workers_and_deadlines_are_replaced(self) -> None:
        first = template_of(EXCHANGES, BEGAN_AT_MS).steps[0].body

        assert first["head"]["corrId"] == CORR_ID
        assert first["data"]["pid"] == "worker of service-foo"
        assert first["data"]["action"]["data"]["id"] == ROOT
        assert first["data"]["action"]["data"]["timeoutAt"] == "in 60000 ms"

    def test_a_recording_in_which_something_was_refused_is_worthless(self) -> None:
        refused = exchange("task.suspend", 11, 12, {"head": {"status": 300}}, id=ROOT_ID, actions=[])

        with pytest.raises(WentAnotherWay, match=r"task\.suspend"):
            template_of([*EXCHANGES, refused], BEGAN_AT_MS)

    def test_placeholders_are_as_long_as_what_they_stand_for(self) -> None:
        assert len(ROOT) == len(ROOT_ID)
        assert len(CORR_ID) == len("sr-") + 32


class TestRecordings:
    """The two that the package brings."""

    @pytest.mark.parametrize("path", [CHAIN_FILE, PAUSED_CHAIN_FILE], ids=lambda path: path.stem)
    def test_they_come_to_their_end(self, path: Any) -> None:
        template = load(path)
        run = Run("foo-1", Plan.of(template))

        due = run.begin()
        while due:
            due += run.answered(due.pop(0))
            if not due:
                for told in [each.on for each in template.steps if each.on] + [template.ends_on]:
                    due += run.heard(told) if told else []

        assert run.is_over

    def test_a_whole_chain_creates_and_fulfills_three_tasks(self) -> None:
        kinds = [each.body["kind"] for each in load(CHAIN_FILE).steps]

        assert kinds.count("task.create") + kinds.count("task.fence") == 3
        assert kinds.count("task.fulfill") == 3
