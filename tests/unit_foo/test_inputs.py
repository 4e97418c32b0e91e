"""Which requests foo accepts, what a client may send, and how errors in it are reported."""

from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import BadRequest, HTTPException
from werkzeug.test import create_environ

from foo_web.inputs import Delays, check_host_and_origin, parse_delays, parse_hosts, parse_key, parse_preference

OWN = {"Origin": "http://localhost:5000", "Sec-Fetch-Site": "same-origin"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
JSON = {"Content-Type": "application/json"}

type Headers = dict[str, str]


def answer(headers: Headers, hosts: str = "", body: bytes | None = None, without: str = "") -> tuple[int, str]:
    """Return status and reason of a refusal, or 200; of a POST if there is a body, otherwise of a GET."""
    method = "GET" if body is None else "POST"
    environ = create_environ(method=method, data=body, headers={"Host": "localhost:5000"} | headers)
    environ.pop(without, None)
    with Flask(__name__).request_context(environ):
        try:
            check_host_and_origin(parse_hosts(hosts))
        except HTTPException as refusal:
            return refusal.code or 0, refusal.description or ""
    return 200, ""


@pytest.mark.parametrize(
    ("hosts", "host", "is_known"),
    [
        ("", "localhost", True),
        ("", "LocalHost:5000", True),
        ("", "127.0.0.1:1", True),
        ("", "127.3.2.1", True),
        ("", "[::1]:5000", True),
        ("", "[::2]", False),
        ("", "192.168.1.5:5000", False),
        ("", "localhost.evil.example", False),
        ("", "evil@localhost", False),
        ("", "localhost:x", False),
        ("", "", False),
        ("", "foo", False),
        (" Foo , demo.example,", "foo:5000", True),
        (" Foo , demo.example,", "demo.example", True),
        (" Foo , demo.example,", "localhost", True),
        (" Foo , demo.example,", "", False),
        ("*", "anybody", True),
        ("*", "", True),
    ],
)
def test_foo_accepts_only_its_own_host_names(hosts: str, host: str, is_known: bool) -> None:
    told = (
        (200, "") if is_known else (421, f"the host {host.lower()!r} is unknown; the variable FOO_HOSTS can allow it")
    )
    assert answer({"Host": host}, hosts) == told
    assert host or answer({}, hosts, without="HTTP_HOST") == told


@pytest.mark.parametrize(
    ("host", "origin", "is_own"),
    [
        ("localhost:5000", "http://localhost:5000", True),
        ("LOCALHOST:5000", "HTTP://localhost:5000", True),
        ("localhost:5000", "https://evil.example", False),
        ("localhost:5000", "http://localhost:1", False),
        ("localhost:5000", "localhost:5000", False),
        ("localhost:5000", "null", False),
        ("localhost:5000", "", False),
        ("", "http://", False),
        ("localhost:5000", "http://localhost:5000,http://evil.example", False),
    ],
)
def test_only_pages_of_its_own_origin_may_send_requests(host: str, origin: str, is_own: bool) -> None:
    told = (200, "") if is_own else (403, f"pages of the origin {origin!r} may not call foo")
    assert answer({"Host": host, "Origin": origin}, "*") == told


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none, cross-site"}, False),
        (LINK, True),
        (LINK | {"Sec-Fetch-Site": "same-site"}, True),
        (LINK | {"Sec-Fetch-Dest": "iframe"}, False),
        (LINK | {"Sec-Fetch-Mode": "no-cors"}, False),
    ],
)
def test_other_sites_may_only_link_to_it(headers: Headers, is_let_in: bool) -> None:
    site = headers["Sec-Fetch-Site"]
    refused = (403, f"pages of other sites may not call foo (Sec-Fetch-Site: {site!r})")
    assert answer(headers) == ((200, "") if is_let_in else refused)
    assert answer(headers | JSON, body=b"{}") == (refused if "site" in site else (200, ""))


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        (OWN, b"{}", 415),
        ({"Sec-Fetch-Mode": "cors"}, b"{}", 415),
        (OWN | {"Content-Type": "text/plain"}, b"{}", 415),
        (OWN | JSON, b"{}", 200),
        (OWN | {"Content-Type": "application/json; charset=utf-8"}, b"{}", 200),
        (OWN, b"", 200),
        ({}, b"{}", 200),
    ],
)
def test_a_browser_must_declare_json(headers: Headers, body: bytes, found: int) -> None:
    assert answer(headers, body=body)[0] == found


def test_a_refused_value_is_shown_escaped_and_shortened() -> None:
    _, text = answer({"Origin": "http://\xe9" + "x" * 1000})
    assert "http://\\xe9xxx" in text
    assert text.count("x") < 220


def parse(body: bytes) -> Delays:
    with Flask(__name__).test_request_context(method="POST", data=body):
        return parse_delays()


@pytest.mark.parametrize(
    ("body", "members", "arguments"),
    [
        (b" \n", {}, (0, 0)),
        (b"{}", {}, (0, 0)),
        (b'{"pause": 0}', {"pause": 0}, (0, 0)),
        (b'{"pause": 3600}', {"pause": 3600}, (3600, 0)),
        (b'{"running": 1.5}', {"running": 1.5}, (0, 1.5)),
    ],
)
def test_a_body_says_how_time_is_spent(body: bytes, members: dict[str, Any], arguments: tuple[float, float]) -> None:
    assert parse(body) == Delays(**members)
    assert parse(body).arguments == arguments


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
        parse(body)
    assert complaint in str(refused.value.description)


@pytest.mark.parametrize(
    ("header", "key"), [("a", "a"), (" a-1.b_c~d ", "a-1.b_c~d"), ('"a"', "a"), ("x" * 128, "x" * 128), ("0", "0")]
)
def test_a_key_may_be_quoted(header: str, key: str) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize("header", ["", "a b", "a/b", ".", "-a", "ü", '"', '""', '"a', "a,b", "x" * 129, "a\nb", "a:1"])
def test_an_invalid_key_is_refused(header: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_key(header)
    assert refused.value.description == (
        "an Idempotency-Key has 1 to 128 characters: letters, digits and . _ ~ -, a letter or digit first"
        + ("; a colon separates the ids of a chain" if header == "a:1" else "")
    )


@pytest.mark.parametrize(
    ("header", "wait", "applied"),
    [
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
