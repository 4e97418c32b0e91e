"""The envelope of requests and answers: sections 1.2 and 1.3."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from unit.reading import read

from resonate_server.protocol.answers import Answer, ClaimData, Nothing, PromiseData, PromisePage, TaskData, TaskPage
from resonate_server.protocol.envelope import VERSION, CheckedRequest, UnreadableRequest, encode_response
from resonate_server.protocol.errors import Unsupported
from resonate_server.protocol.records import Promise, PromiseState, TaskRecord, TaskState, Value
from resonate_server.protocol.requests import KINDS, PromiseCreate, PromiseGet

HEAD = {"corrId": "c-1", "version": VERSION}


def body(kind: Any = "promise.get", head: Any = HEAD, data: Any = None, **more: Any) -> bytes:
    return json.dumps({"kind": kind, "head": head, "data": {"id": "p"} if data is None else data, **more}).encode()


def refused(raw: bytes) -> UnreadableRequest:
    result = read(raw)
    assert isinstance(result, UnreadableRequest)
    assert result.message
    return result


def accepted(raw: bytes) -> CheckedRequest:
    result = read(raw)
    assert isinstance(result, CheckedRequest), result
    return result


WRONG_OF: dict[str, list[Any]] = {
    "kind": ["", None, 1, [], {}],
    "data": [[], "text", 1, True, [{"id": "p"}]],
    "head": [None, [], "text", 1],
    "version": ["", "2026-04-02", "2025-01-15", "v1", 20260401, None],
    "corrId": [1, None, [], {}],
    "auth": [1, [], {}, True],
    "resonate:debug_time": ["5", 1.5, [], True],
}
WRONG = [(member, wrong) for member, each in WRONG_OF.items() for wrong in each]


class TestAccepted:
    def test_a_complete_envelope(self) -> None:
        assert accepted(body()) == CheckedRequest(corr_id="c-1", request=PromiseGet(id="p"))

    def test_unknown_members_are_ignored_everywhere(self) -> None:
        raw = body(head=HEAD | {"resonate:origin": "x", "n": 1}, data={"id": "p", "x": [1.5, None, {}]}, more=[None])
        assert accepted(raw).request == PromiseGet(id="p")

    @pytest.mark.parametrize("corr_id", ["", "x" * 10_000, "é\u2028", "sr-1"])
    def test_any_text_as_correlation_id(self, corr_id: str) -> None:
        assert accepted(body(head=HEAD | {"corrId": corr_id})).corr_id == corr_id

    @pytest.mark.parametrize("auth", ["token", None])
    def test_a_token_or_none(self, auth: str | None) -> None:
        accepted(body(head=HEAD | {"auth": auth}))

    def test_a_debug_time_is_ignored(self) -> None:
        accepted(body(head=HEAD | {"resonate:debug_time": 5}))

    def test_white_space_around_everything(self) -> None:
        accepted(
            b' \n\t{ "kind" : "promise.get" ,\r\n"head":{"corrId":"c","version":"2026-04-01"},"data" : \n{"id":"p"}} '
        )

    def test_members_in_any_order(self) -> None:
        accepted(b'{"data":{"id":"p"},"head":{"version":"2026-04-01","corrId":"c"},"kind":"promise.get"}')


class TestRefused:
    @pytest.mark.parametrize(
        "raw",
        [b"", b" ", b"x", b"{", b"[]", b"null", b'"text"', b"1", b"{}", b"\xff", b"\xef\xbb\xbf{}", b"\x00", b"{}{}"],
    )
    def test_what_is_no_envelope_is_answered_as_unknown(self, raw: bytes) -> None:
        refusal = refused(raw)
        assert (refusal.kind, refusal.corr_id) == ("unknown", "0")

    @pytest.mark.parametrize("member", ["kind", "head", "data", "corrId", "version"])
    def test_a_missing_member(self, member: str) -> None:
        head = {name: text for name, text in HEAD.items() if name != member}
        envelope = {name: part for name, part in json.loads(body(head=head)).items() if name != member}
        refused(json.dumps(envelope).encode())

    @pytest.mark.parametrize(("member", "wrong"), WRONG, ids=str)
    def test_a_member_of_another_kind(self, member: str, wrong: Any) -> None:
        parts: dict[str, Any] = (
            {member: wrong} if member in ("kind", "data", "head") else {"head": HEAD | {member: wrong}}
        )
        refused(body(**parts))

    def test_data_that_is_null(self) -> None:
        refused(b'{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":null}')

    @pytest.mark.parametrize("kind", ["promise", "promise.", "Promise.get", "promise.get ", "task.claim", "x" * 1_000])
    def test_an_unknown_kind(self, kind: str) -> None:
        with pytest.raises(Unsupported):
            read(body(kind=kind))


class TestOrderOfChecks:
    """The first failing check answers (section 1.3)."""

    def test_the_empty_kind_before_data(self) -> None:
        assert "kind" in refused(body(kind="", head=HEAD | {"version": "x"}, data=[])).message

    def test_data_before_the_version(self) -> None:
        assert "data" in refused(body(kind="unknown.kind", head=HEAD | {"version": "x"}, data=[])).message

    def test_the_version_before_the_kind(self) -> None:
        assert "version" in refused(body(kind="unknown.kind", head=HEAD | {"version": "x"}, data={})).message

    def test_the_kind_before_its_members(self) -> None:
        with pytest.raises(Unsupported):
            read(body(kind="unknown.kind", data={"id": 1}))


class TestRecovered:
    """What a client needs to match a refusal with its request is recovered where it can be."""

    def test_kind_and_correlation_id_from_an_envelope_that_does_not_parse(self) -> None:
        refusal = refused(body(head={"corrId": "c-1", "version": 5}))
        assert (refusal.kind, refusal.corr_id) == ("promise.get", "c-1")

    def test_the_kind_alone(self) -> None:
        refusal = refused(body(head=7))
        assert (refusal.kind, refusal.corr_id) == ("promise.get", "0")

    def test_the_correlation_id_alone(self) -> None:
        refusal = refused(body(kind=7))
        assert (refusal.kind, refusal.corr_id) == ("unknown", "c-1")

    def test_both_if_only_a_member_of_the_kind_is_wrong(self) -> None:
        refusal = refused(body(data={"id": 5}))
        assert (refusal.kind, refusal.corr_id) == ("promise.get", "c-1")

    def test_what_is_recovered_can_be_answered(self) -> None:
        for raw in (b'{"kind":"\\ud800"}', b'{"kind":"a","head":{"corrId":"\\ud800"}}', body(kind="\x00é😀", data=[])):
            refusal = refused(raw)
            encode_response(refusal.kind, refusal.corr_id, 400, refusal.message)


PROMISE = Promise("p", PromiseState.PENDING, Value(), Value(), {}, 5, 4)
SETTLED = Promise("p", PromiseState.RESOLVED, Value(data=""), Value(headers={}), {"a": "b"}, 5, 4, 5)
TASK = TaskRecord("p", TaskState.PENDING, 0, 0)
HELD = TaskRecord("p", TaskState.ACQUIRED, 1, 0, 10, "pid")


class TestAnswers:
    """Section 2.1: absent members are left out, required ones are always there, nothing is null."""

    def encoded(self, data: object, status: int = 200) -> Any:
        return json.loads(encode_response("k", "c", status, data))

    def test_echo_status_and_version(self) -> None:
        assert self.encoded(Nothing(), 300) == {
            "kind": "k",
            "head": {"corrId": "c", "status": 300, "version": "2026-04-01"},
            "data": {},
        }

    def test_a_refusal_carries_one_string(self) -> None:
        assert self.encoded("why", 404)["data"] == "why"

    def test_a_pending_promise(self) -> None:
        assert self.encoded(PromiseData(PROMISE))["data"]["promise"] == {
            "id": "p",
            "state": "pending",
            "param": {},
            "value": {},
            "tags": {},
            "timeoutAt": 5,
            "createdAt": 4,
        }

    def test_a_settled_promise(self) -> None:
        assert self.encoded(PromiseData(SETTLED))["data"]["promise"] == {
            "id": "p",
            "state": "resolved",
            "param": {"data": ""},
            "value": {"headers": {}},
            "tags": {"a": "b"},
            "timeoutAt": 5,
            "createdAt": 4,
            "settledAt": 5,
        }

    def test_a_task_that_nobody_holds(self) -> None:
        assert self.encoded(TaskData(TASK))["data"]["task"] == {
            "id": "p",
            "state": "pending",
            "version": 0,
            "resumes": 0,
        }

    def test_a_task_that_is_held(self) -> None:
        assert self.encoded(TaskData(HELD))["data"]["task"] == {
            "id": "p",
            "state": "acquired",
            "version": 1,
            "resumes": 0,
            "ttl": 10,
            "pid": "pid",
        }

    def test_a_claim(self) -> None:
        assert set(self.encoded(ClaimData(HELD, PROMISE, []))["data"]) == {"task", "promise", "preload"}

    @pytest.mark.parametrize("cursor", ["p", UNSET])
    def test_a_page_has_a_cursor_only_if_there_is_more(self, cursor: Any) -> None:
        assert ("cursor" in self.encoded(PromisePage([PROMISE], cursor))["data"]) is (cursor is not UNSET)
        assert ("cursor" in self.encoded(TaskPage([TASK], cursor))["data"]) is (cursor is not UNSET)

    @pytest.mark.parametrize("state", list(PromiseState))
    def test_names_of_promise_states(self, state: PromiseState) -> None:
        names = ["pending", "resolved", "rejected", "rejected_canceled", "rejected_timedout"]
        assert json.loads(msgspec.json.encode(state)) in names

    def test_names_of_task_states(self) -> None:
        assert [state.value for state in TaskState] == ["pending", "acquired", "suspended", "halted", "fulfilled"]


def test_all_kinds_of_promise_and_task_are_known() -> None:
    promises = ["get", "create", "settle", "register_callback", "register_listener", "search"]
    tasks = [
        "get",
        "create",
        "acquire",
        "release",
        "fulfill",
        "suspend",
        "fence",
        "heartbeat",
        "halt",
        "continue",
        "search",
    ]
    assert set(KINDS) >= {f"promise.{kind}" for kind in promises} | {f"task.{kind}" for kind in tasks}


def test_an_answer_is_a_value() -> None:
    assert Answer(200, Nothing()) == Answer(200, Nothing())


def test_a_created_promise_keeps_what_it_was_given() -> None:
    data = {"id": "p", "timeoutAt": 5, "param": {"headers": {"h": "1"}, "data": "x"}, "tags": {"a": "b"}}
    assert accepted(body("promise.create", data=data)).request == PromiseCreate(
        "p", 5, Value(headers={"h": "1"}, data="x"), {"a": "b"}
    )
