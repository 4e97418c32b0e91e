"""Bodies of messages: section 5.1, and what the SDKs' stream parsers require (5.3)."""

import json

import pytest

from resonate_server.protocol.messages import Execute, Unblock, encode_message
from resonate_server.protocol.records import Promise, PromiseState, Value

URL = "http://localhost:8001"
ODD = 'é\u2028\u0085\n\r\x00"\\😀\uff5e\x7f'


def test_unblock() -> None:
    promise = Promise("p", PromiseState.RESOLVED, Value(), Value(data="x"), {"a": "b"}, 5, 4, 5)

    assert json.loads(encode_message(Unblock(promise, "poll://uni@callers/1"), URL)) == {
        "kind": "unblock",
        "head": {},
        "data": {
            "promise": {
                "id": "p",
                "state": "resolved",
                "param": {},
                "value": {"data": "x"},
                "tags": {"a": "b"},
                "timeoutAt": 5,
                "createdAt": 4,
                "settledAt": 5,
            }
        },
    }


@pytest.mark.parametrize(
    "message",
    [
        Execute(task_id=ODD, version=0, target="poll://any@workers"),
        Unblock(
            Promise(ODD, PromiseState.RESOLVED, Value(data=ODD), Value({ODD: ODD}), {ODD: ODD}, 5, 4, 5), "poll://any@g"
        ),
    ],
)
def test_a_message_is_one_line_of_ascii_whatever_it_holds(message: Execute | Unblock) -> None:
    encoded = encode_message(message, URL)
    assert encoded.isascii()
    assert encoded.decode().splitlines() == [encoded.decode()]
    assert b"null" not in encoded


def test_odd_characters_arrive_as_they_were() -> None:
    message = Execute(task_id=ODD, version=0, target="poll://any@workers")
    assert json.loads(encode_message(message, URL))["data"]["task"]["id"] == ODD
