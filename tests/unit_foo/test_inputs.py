"""What a client may send, and how errors in it are reported."""

import pytest
from werkzeug.exceptions import BadRequest

from foo_web.inputs import Delays, parse_body, parse_key, parse_preference


@pytest.mark.parametrize(
    ("body", "delays", "arguments"),
    [
        (b"", Delays(), (0, 0)),
        (b" \n", Delays(), (0, 0)),
        (b"{}", Delays(), (0, 0)),
        (b'{"pause": 0}', Delays(pause=0), (0, 0)),
        (b'{"pause": 3600}', Delays(pause=3600), (3600, 0)),
        (b'{"running": 1.5}', Delays(running=1.5), (0, 1.5)),
    ],
)
def test_a_body_says_how_time_is_spent(body: bytes, delays: Delays, arguments: tuple[float, float]) -> None:
    assert parse_body(body) == delays
    assert parse_body(body).arguments == arguments


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"pause=1", "JSON is malformed"),
        (b'{"pause": "\xff"}', "the body must be a JSON object like"),
        (b"[" * 10_000, 'like {"pause": 10} or {"running": 10}, in seconds: '),
        (b"[]", "object"),
        (b'{"pause": -0.1}', "pause"),
        (b'{"pause": 3600.1}', "pause"),
        (b'{"sleep": 1}', "sleep"),
        (b'{"pause": 0, "running": 0}', "the body must have either pause or running, not both"),
        (b'{"pause": "1"}', "pause"),
        (b'{"pause": true}', "pause"),
        (b'{"pause": null}', "pause"),
    ],
)
def test_errors_in_a_body_are_described(body: bytes, complaint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_body(body)
    assert complaint in str(refused.value.description)


def test_without_a_key_each_chain_has_an_id_of_its_own() -> None:
    ids = {parse_key(None) for _ in range(100)}
    assert len(ids) == 100
    assert {(id[:4], len(id)) for id in ids} == {("foo-", 20)}


@pytest.mark.parametrize(
    ("header", "key"), [("a", "a"), (" a-1.b_c~d ", "a-1.b_c~d"), ('"a"', "a"), ("x" * 128, "x" * 128), ("0", "0")]
)
def test_a_key_may_be_quoted(header: str, key: str) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize("header", ["", "a b", "a/b", ".", "-a", "ü", '"', '""', '"a', "a,b", "x" * 129, "a\nb"])
def test_an_invalid_key_is_refused(header: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_key(header)
    assert refused.value.description == (
        "an Idempotency-Key has 1 to 128 characters: letters, digits and . _ ~ -, a letter or digit first"
    )


def test_the_message_says_why_a_colon_is_not_allowed() -> None:
    with pytest.raises(BadRequest, match="a letter or digit first; a colon separates the ids of a chain"):
        parse_key("a:1")


@pytest.mark.parametrize(
    ("header", "wait", "applied"),
    [
        ("", None, ""),
        ("return=minimal", None, ""),
        ("respond-async", 0, "respond-async"),
        ("Respond-Async, return=minimal", 0, "respond-async"),
        ("wait=10", 10, "wait=10"),
        ("wait=0", 0, "wait=0"),
        ("respond-async, wait=30", 30, "respond-async, wait=30"),
        ("wait=999999999", 999_999_999, "wait=999999999"),
        ("wait=1000000000", None, ""),
        ("wait=-1", None, ""),
        ("wait=1.5", None, ""),
        ("wait", None, ""),
        ("respond-async, wait=soon", 0, "respond-async"),
        ("wait=1, wait=5", 1, "wait=1"),
        ("wait=soon, wait=5", None, ""),
        ('wait="7"', 7, "wait=7"),
        ("wait = 3; a=b", 3, "wait=3"),
        ('respond-async; a="b", wait=30;c', 30, "respond-async, wait=30"),
    ],
)
def test_preferences_that_are_understood_are_applied(header: str, wait: float | None, applied: str) -> None:
    assert parse_preference(header) == (wait, applied)
