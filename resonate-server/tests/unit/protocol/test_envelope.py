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
from resonate_server.protocol.requests import KINDS, PromiseGet

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
        refused(b'{"kind":"promise.get","head":{"corrId":"c","version":"2026-04-01"},"data":null}')

    @pytest.mark.parametrize("kind", ["promise", "promise.", "Promise.get", "promise.get ", "task.claim", "x" * 1_000])
    def test_an_unknown_kind(self, kind: str) -> None:
        with pytest.raises(Unsupported):
            read(body(kind=kind))


class TestOrderOfChecks:
    """The first failing check determines the answer (section 1.3)."""

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
    """Whatever a client needs to match a refusal with its request is recovered if possible."""

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

    def test_recovered_members_can_be_used_in_an_answer(self) -> None:
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

    @pytest.mark.parametrize(
        ("record", "shown"),
        [
            (PROMISE, {"state": "pending", "param": {}, "value": {}, "tags": {}}),
            (
                SETTLED,
                {
                    "state": "resolved",
                    "param": {"data": ""},
                    "value": {"headers": {}},
                    "tags": {"a": "b"},
                    "settledAt": 5,
                },
            ),
        ],
        ids=["pending", "settled"],
    )
    def test_a_promise(self, record: Promise, shown: dict[str, Any]) -> None:
        assert self.encoded(record)["data"] == {"id": "p", "timeoutAt": 5, "createdAt": 4, **shown}

    @pytest.mark.parametrize(
        ("record", "shown"),
        [
            (TASK, {"state": "pending", "version": 0}),
            (HELD, {"state": "acquired", "version": 1, "ttl": 10, "pid": "pid"}),
        ],
        ids=["that nobody holds", "that is held"],
    )
    def test_a_task(self, record: TaskRecord, shown: dict[str, Any]) -> None:
        assert self.encoded(record)["data"] == {"id": "p", "resumes": 0, **shown}

    @pytest.mark.parametrize("cursor", ["p", UNSET])
    def test_a_page_has_a_cursor_only_if_there_is_more(self, cursor: Any) -> None:
        assert ("cursor" in self.encoded(PromisePage([PROMISE], cursor))["data"]) is (cursor is not UNSET)
        assert ("cursor" in self.encoded(TaskPage([TASK], cursor))["data"]) is (cursor is not UNSET)


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
