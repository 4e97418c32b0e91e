"""The envelope of requests and answers: sections 1.2 and 1.3."""

import json
from typing import Any

import pytest
from msgspec import UNSET
from unit.reading import read

from resonate_server.protocol.answers import Nothing, PromisePage, TaskPage
from resonate_server.protocol.envelope import VERSION, CheckedRequest, UnreadableRequest, encode_response
from resonate_server.protocol.errors import Unsupported
from resonate_server.protocol.records import Promise, PromiseState, TaskRecord, TaskState, Value
from resonate_server.protocol.requests import PromiseGet

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
    def test_unknown_members_are_ignored_everywhere(self) -> None:
        raw = body(head=HEAD | {"resonate:origin": "x", "n": 1}, data={"id": "p", "x": [1.5, None, {}]}, more=[None])
        assert accepted(raw).request == PromiseGet(id="p")

    @pytest.mark.parametrize("corr_id", ["", "x" * 10_000, "é\u2028", "sr-1"])
    def test_any_text_as_correlation_id(self, corr_id: str) -> None:
        assert accepted(body(head=HEAD | {"corrId": corr_id})).corr_id == corr_id

    @pytest.mark.parametrize("auth", ["token", None])
    def test_a_token_or_none(self, auth: str | None) -> None:
        accepted(body(head=HEAD | {"auth": auth}))

    def test_white_space_around_everything(self) -> None:
        accepted(
            b' \n\t{ "kind" : "promise.get" ,\r\n"head":{"corrId":"c","version":"2026-04-01"},"data" : \n{"id":"p"}} '
        )


class TestRefused:
    @pytest.mark.parametrize(
        "raw",
        [b"", b" ", b"x", b"{", b"[]", b"null", b'"text"', b"1", b"{}", b"\xff", b"\xef\xbb\xbf{}", b"\x00", b"{}{}"],
    )
    def test_a_body_that_is_not_an_envelope_is_answered_as_unknown(self, raw: bytes) -> None:
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
        refused(json.dumps({"kind": "promise.get", "head": HEAD, "data": None}).encode())

    @pytest.mark.parametrize("kind", ["promise", "promise.", "Promise.get", "promise.get ", "task.claim", "x" * 1_000])
    def test_an_unknown_kind(self, kind: str) -> None:
        with pytest.raises(Unsupported):
            read(body(kind=kind))


class TestOrderOfChecks:
    """The first failing check determines the answer (section 1.3)."""

    @pytest.mark.parametrize(
        ("kind", "data", "first"), [("", [], "kind"), ("unknown.kind", [], "data"), ("unknown.kind", {}, "version")]
    )
    def test_kind_data_version_and_whether_the_kind_is_known(self, kind: str, data: Any, first: str) -> None:
        assert first in refused(body(kind=kind, head=HEAD | {"version": "x"}, data=data)).message

    def test_the_kind_before_its_members(self) -> None:
        with pytest.raises(Unsupported):
            read(body(kind="unknown.kind", data={"id": 1}))


class TestRecovered:
    """Whatever a client needs to match a refusal with its request is recovered if possible."""

    @pytest.mark.parametrize(
        ("raw", "kind", "corr_id"),
        [
            pytest.param(
                body(head={"corrId": "c-1", "version": 5}), "promise.get", "c-1", id="both, without a version"
            ),
            pytest.param(body(data={"id": 5}), "promise.get", "c-1", id="both, if a member of the kind is wrong"),
            pytest.param(body(head=7), "promise.get", "0", id="the kind alone"),
            pytest.param(body(kind=7), "unknown", "c-1", id="the correlation id alone"),
        ],
    )
    def test_kind_and_correlation_id(self, raw: bytes, kind: str, corr_id: str) -> None:
        refusal = refused(raw)
        assert (refusal.kind, refusal.corr_id) == (kind, corr_id)

    def test_recovered_members_can_be_used_in_an_answer(self) -> None:
        for raw in (b'{"kind":"\\ud800"}', b'{"kind":"a","head":{"corrId":"\\ud800"}}', body(kind="\x00é😀", data=[])):
            refusal = refused(raw)
            encode_response(refusal.kind, refusal.corr_id, 400, refusal.message)


PROMISE = Promise("p", PromiseState.PENDING, Value(), Value(), {}, 5, 4)
SETTLED = Promise("p", PromiseState.RESOLVED, Value(data=""), Value(headers={}), {"a": "b"}, 5, 4, 5)
TASK = TaskRecord("p", TaskState.PENDING, 0, 0)
HELD = TaskRecord("p", TaskState.ACQUIRED, 1, 0, 10, "pid")

TIMES = {"timeoutAt": 5, "createdAt": 4}
RECORDS: dict[str, tuple[Promise | TaskRecord, dict[str, Any]]] = {
    "a pending promise": (PROMISE, {"state": "pending", "param": {}, "value": {}, "tags": {}} | TIMES),
    "a settled promise": (
        SETTLED,
        {"state": "resolved", "param": {"data": ""}, "value": {"headers": {}}, "tags": {"a": "b"}, "settledAt": 5}
        | TIMES,
    ),
    "a task that nobody holds": (TASK, {"state": "pending", "resumes": 0, "version": 0}),
    "a task that is held": (HELD, {"state": "acquired", "resumes": 0, "version": 1, "ttl": 10, "pid": "pid"}),
}


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

    @pytest.mark.parametrize(("record", "shown"), RECORDS.values(), ids=RECORDS)
    def test_a_record(self, record: Promise | TaskRecord, shown: dict[str, Any]) -> None:
        assert self.encoded(record)["data"] == {"id": "p"} | shown

    @pytest.mark.parametrize("cursor", ["p", UNSET])
    def test_a_page_has_a_cursor_only_if_there_is_more(self, cursor: Any) -> None:
        assert ("cursor" in self.encoded(PromisePage([PROMISE], cursor))["data"]) is (cursor is not UNSET)
        assert ("cursor" in self.encoded(TaskPage([TASK], cursor))["data"]) is (cursor is not UNSET)
