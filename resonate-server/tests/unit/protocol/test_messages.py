"""Addresses of messages (section 2.4), their bodies (5.1), and what the SDKs' stream parsers require (5.3)."""

import json
import tracemalloc

import pytest

from resonate_server.protocol.address import Address, PollAddress, PushAddress, group_of, parse_address
from resonate_server.protocol.messages import Execute, Unblock, encode_message
from resonate_server.protocol.records import Promise, PromiseState, Value


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("poll://any@workers", PollAddress("workers", "", exact=False)),
        ("poll://any@workers/w1", PollAddress("workers", "w1", exact=False)),
        ("poll://uni@workers/w1", PollAddress("workers", "w1", exact=True)),
        ("poll://uni@workers", PollAddress("workers", "", exact=True)),
        ("poll://uni@workers/", PollAddress("workers", "", exact=True)),
        ("poll://any@Workers/W1", PollAddress("Workers", "W1", exact=False)),
        ("poll://any@service-foo.v2_x", PollAddress("service-foo.v2_x", "", exact=False)),
        ("poll://any@workers/a/b", PollAddress("workers", "a/b", exact=False)),
        ("poll://any@a%20b/c%2Fd", PollAddress("a b", "c/d", exact=False)),
        ("http://host:1/path?q=1", PushAddress("http://host:1/path?q=1")),
        ("https://host", PushAddress("https://host")),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert parse_address(text) == address


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
def test_a_target_is_shown_as_its_group_or_address(target: str | None, group: str | None) -> None:
    assert group_of(target) == group


def test_long_addresses_do_not_stay_in_memory() -> None:
    """A client may name any number of them, each as long as a promise's tags may be."""
    tracemalloc.start()
    try:
        for number in range(100):
            group_of(f"poll://any@{number}{'x' * 65_000}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


URL = "http://localhost:8001"
ODD = 'é\u2028\u0085\n\r\x00"\\😀\uff5e\x7f'


@pytest.mark.parametrize("text", ["x", ODD], ids=ascii)
def test_a_message_is_one_line_of_ascii_whatever_it_holds(text: str) -> None:
    promise = Promise(text, PromiseState.RESOLVED, Value(), Value({text: text}, text), {text: text}, 5, 4, 5)
    record: dict[str, object] = {
        "id": text,
        "state": "resolved",
        "param": {},
        "value": {"headers": {text: text}, "data": text},
    }
    record |= {"tags": {text: text}, "timeoutAt": 5, "createdAt": 4, "settledAt": 5}
    task = {"id": text, "version": 0}
    unblock = encode_message(Unblock(promise, "poll://uni@callers/1"), URL)
    execute = encode_message(Execute(task_id=text, version=0, target="poll://any@workers"), URL)

    for encoded in (unblock, execute):
        assert encoded.isascii()
        assert encoded.decode().splitlines() == [encoded.decode()]
    assert json.loads(unblock) == {"kind": "unblock", "head": {}, "data": {"promise": record}}
    assert json.loads(execute) == {"kind": "execute", "head": {"serverUrl": URL}, "data": {"task": task}}
