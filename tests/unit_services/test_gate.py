"""Which requests foo accepts through gunicorn; tests/unit_foo/test_gate.py covers the single rules."""

from http import HTTPStatus

import pytest

from .programs import Stack
from .test_interface import is_problem

ROUTES = [("POST", "/foo"), ("GET", "/foo/some-chain"), ("GET", "/health"), ("GET", "/nowhere"), ("DELETE", "/foo")]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"Host": "192.168.1.5:5000"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"Host": ""}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"Origin": "https://evil.example"}, HTTPStatus.FORBIDDEN),
        ({"Origin": ""}, HTTPStatus.FORBIDDEN),
        ({"Origin": "http://127.0.0.1:{port},http://evil.example"}, HTTPStatus.FORBIDDEN),
        ({"Sec-Fetch-Site": "cross-site"}, HTTPStatus.FORBIDDEN),
        ({"Sec-Fetch-Site": "none, cross-site"}, HTTPStatus.FORBIDDEN),
    ],
)
def test_other_sites_and_other_hosts_are_refused_on_every_route(
    running: Stack, headers: dict[str, str], status: HTTPStatus
) -> None:
    named = {name: value.format(port=running.foo_port) for name, value in headers.items()}
    for method, path in ROUTES:
        reply = running.request(method, path, b"{}", named | JSON | {"Idempotency-Key": "forged"})
        assert is_problem(reply, status), (method, path)
    assert running.get("/foo/forged").status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Host": "127.3.2.1:80"}, b"", HTTPStatus.OK),
        ({"Host": "LOCALHOST:5000"}, b"", HTTPStatus.OK),
        ({"Host": "[::1]:5000"}, b"", HTTPStatus.OK),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"} | JSON, b"{}", HTTPStatus.OK),
        ({"Sec-Fetch-Site": "none"}, b"{}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ({"Origin": "null"}, b" " * 20_000, HTTPStatus.FORBIDDEN),
    ],
)
def test_loopback_and_its_own_page_are_accepted(
    running: Stack, headers: dict[str, str], body: bytes, status: HTTPStatus
) -> None:
    named = {name: value.format(port=running.foo_port) for name, value in headers.items()}
    assert running.request("POST", "/foo", body, named).status == status


@pytest.mark.parametrize(
    ("hosts", "known", "unknown"),
    [("foo, demo.example", ["foo:5000", "Demo.Example", "localhost"], ["bar"]), ("*", ["x"], [])],
)
def test_more_hosts_may_be_allowed(served: Stack, hosts: str, known: list[str], unknown: list[str]) -> None:
    served.start_foo(hosts)
    for names, status in ((known, HTTPStatus.OK), (unknown, HTTPStatus.MISDIRECTED_REQUEST)):
        for name in names:
            assert served.request("GET", "/health", headers={"Host": name}).status == status


def test_a_refused_origin_is_shown_escaped(running: Stack) -> None:
    reply = running.request("GET", "/health", headers={"Origin": "http://ugly\x9b31m\xe9.example" + "x" * 5000})
    assert is_problem(reply, HTTPStatus.FORBIDDEN)
    assert "\x9b" not in reply.text
    assert len(reply.text) < 500
