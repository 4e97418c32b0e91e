"""The envelope of requests and answers: sections 1.2 and 1.3."""

import json
from typing import Any

import pytest
from msgspec import UNSET
from unit.reading import Refused, read

from resonate_server.protocol.answers import Nothing, PromisePage, TaskPage
from resonate_server.protocol.envelope import VERSION, CheckedRequest, encode_response
from resonate_server.protocol.errors import Unsupported
from resonate_server.protocol.records import Promise, PromiseState, TaskRecord, TaskState, Value
from resonate_server.protocol.requests import PromiseGet

HEAD = {"corrId": "c-1", "version": VERSION}
MISSING = object()


def body(**members: Any) -> bytes:
    """Return a request with other members, which belong to its head if they are none of the envelope's."""
    envelope: dict[str, Any] = {"kind": "promise.get", "head": dict(HEAD), "data": {"id": "p"}}
    for name, member in members.items():
        part = envelope if name in ("kind", "head", "data", "more") else envelope["head"]
        part[name] = member
        if member is MISSING:
            del part[name]
    return json.dumps(envelope).encode()


def refused(raw: bytes) -> Refused:
    result = read(raw)
    assert isinstance(result, Refused)
    assert result.message
    return result


@pytest.mark.parametrize(
    "raw",
    [
        *[body(corrId=corr_id) for corr_id in ("c-1", "", "x" * 10_000, "é\u2028")],
        *[body(auth=auth) for auth in ("token", None)],
        body(**{"resonate:origin": "x", "n": 1}, data={"id": "p", "x": [1.5, None, {}]}, more=[None]),
        b' \n\t{ "kind" : "promise.get" ,\r\n"head":{"corrId":"","version":"2026-04-01"},"data" : \n{"id":"p"}} ',
    ],
)
def test_any_correlation_id_or_token_white_space_and_unknown_members_are_accepted(raw: bytes) -> None:
    result = read(raw)
    assert isinstance(result, CheckedRequest)
    assert (result.request, result.corr_id) == (PromiseGet(id="p"), json.loads(raw)["head"]["corrId"])


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"x", b"{", b"[]", b"null", b'"text"', b"1", b"{}", b"\xff", b"\xef\xbb\xbf{}", b"\x00", b"{}{}"],
)
def test_a_body_that_is_not_an_envelope_is_answered_as_unknown(raw: bytes) -> None:
    refusal = refused(raw)
    assert (refusal.kind, refusal.corr_id) == ("unknown", "0")


WRONG: dict[str, list[Any]] = {
    "kind": [MISSING, "", None, 1, [], {}],
    "data": [MISSING, None, [], "text", 1, True, [{"id": "p"}], {"id": 5}],
    "head": [MISSING, None, [], "text", 1],
    "version": [MISSING, "", "2026-04-02", "2025-01-15", "v1", 20260401, None],
    "corrId": [MISSING, 1, None, [], {}],
    "auth": [1, [], {}, True],
    "resonate:debug_time": ["5", 1.5, [], True],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_member_is_refused_with_kind_and_correlation_id_if_they_can_be_read(name: str) -> None:
    for wrong in WRONG[name]:
        refusal = refused(body(**{name: wrong}))
        kind = wrong if isinstance(wrong, str) else "unknown"
        assert refusal.kind == (kind if name == "kind" else "promise.get")
        assert refusal.corr_id == ("0" if name in ("head", "corrId") else "c-1")


@pytest.mark.parametrize("raw", [b'{"kind":"\\ud800"}', b'{"head":{"corrId":"\\ud800"}}', body(kind="\0é😀", data=[])])
def test_what_was_read_of_a_wrong_request_can_be_written(raw: bytes) -> None:
    refusal = refused(raw)
    encode_response(refusal.kind, refusal.corr_id, 400, refusal.message)


@pytest.mark.parametrize("kind", ["promise", "promise.", "Promise.get", "promise.get ", "task.claim", "x" * 1_000])
def test_an_unknown_kind_is_refused_before_its_members_are_looked_at(kind: str) -> None:
    for data in ({"id": "p"}, {"id": 1}):
        with pytest.raises(Unsupported):
            read(body(kind=kind, data=data))


@pytest.mark.parametrize(
    ("kind", "data", "first"), [("", [], "kind"), ("unknown.kind", [], "data"), ("unknown.kind", {}, "version")]
)
def test_the_first_failing_check_determines_the_answer(kind: str, data: Any, first: str) -> None:
    """Section 1.3."""
    assert first in refused(body(kind=kind, version="x", data=data)).message


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

    def encoded(self, data: object) -> Any:
        return json.loads(encode_response("k", "c", 300, data))["data"]

    @pytest.mark.parametrize(("data", "shown"), [(Nothing(), {}), ("why", "why")])
    def test_an_envelope(self, data: object, shown: Any) -> None:
        head = {"corrId": "c", "status": 300, "version": "2026-04-01"}
        assert json.loads(encode_response("k", "c", 300, data)) == {"kind": "k", "head": head, "data": shown}

    @pytest.mark.parametrize(("record", "shown"), RECORDS.values(), ids=RECORDS)
    def test_a_record(self, record: Promise | TaskRecord, shown: dict[str, Any]) -> None:
        assert self.encoded(record) == {"id": "p"} | shown

    @pytest.mark.parametrize("cursor", ["p", UNSET])
    def test_a_page_has_a_cursor_only_if_there_is_more(self, cursor: Any) -> None:
        assert ("cursor" in self.encoded(PromisePage([PROMISE], cursor))) is (cursor is not UNSET)
        assert ("cursor" in self.encoded(TaskPage([TASK], cursor))) is (cursor is not UNSET)
