"""Which requests foo lets in: none of another site's pages, and none for a host that is not foo."""

from http import HTTPStatus

import pytest

from .programs import Reply, Stack
from .test_interface import is_problem

ROUTES = [("POST", "/foo"), ("GET", "/foo/some-chain"), ("GET", "/health"), ("GET", "/nowhere"), ("DELETE", "/foo")]
JSON = {"Content-Type": "application/json"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "127.3.2.1:80", "localhost", "LOCALHOST:5000", "[::1]:5000"]
)
def test_loopback_is_known(running: Stack, host: str) -> None:
    assert running.request("GET", "/health", headers={"Host": host}).status == HTTPStatus.OK


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "foo:5000", "localhost.evil.example", "evil@localhost", "192.168.1.5:5000", "[::2]", "[", ""],
)
def test_another_host_is_refused_on_every_route(running: Stack, method: str, path: str, host: str) -> None:
    reply = running.request(method, path, headers={"Host": host, "Idempotency-Key": "rebound"})
    assert is_problem(reply, HTTPStatus.MISDIRECTED_REQUEST)
    assert "FOO_HOSTS" in reply.json["detail"]
    assert running.get("/foo/rebound").status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("hosts", "known", "unknown"),
    [("foo, demo.example", ["foo:5000", "Demo.Example", "localhost"], ["bar"]), ("*", ["x"], [])],
)
def test_more_hosts_may_be_named(stack: Stack, hosts: str, known: list[str], unknown: list[str]) -> None:
    stack.start_server()
    stack.start_foo(hosts)
    for names, status in ((known, HTTPStatus.OK), (unknown, HTTPStatus.MISDIRECTED_REQUEST)):
        for name in names:
            assert stack.request("GET", "/health", headers={"Host": name}).status == status


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:1"},
        {"Origin": "http://127.0.0.1:{port},http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none, cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "document"},
    ],
)
def test_pages_of_other_sites_are_refused_on_every_route(
    running: Stack, method: str, path: str, headers: dict[str, str]
) -> None:
    named = {name: value.format(port=running.foo_port) for name, value in headers.items()}
    reply = running.request(method, path, b"{}", named | JSON | {"Idempotency-Key": "forged"})
    assert is_problem(reply, HTTPStatus.FORBIDDEN)
    assert running.get("/foo/forged").status == HTTPStatus.NOT_FOUND


def test_a_body_that_is_too_large_does_not_pass_the_gate_either(running: Stack) -> None:
    reply = running.request("POST", "/foo", b" " * 20_000, {"Origin": "null"})
    assert is_problem(reply, HTTPStatus.FORBIDDEN)


def test_a_link_on_another_site_may_be_followed(running: Stack) -> None:
    assert running.request("GET", "/health", headers=LINK).status == HTTPStatus.OK


def test_a_form_on_another_site_may_not_be_sent(running: Stack) -> None:
    assert is_problem(running.request("POST", "/foo", b"{}", LINK | JSON), HTTPStatus.FORBIDDEN)


def _from_own_page(stack: Stack, body: bytes, headers: dict[str, str]) -> Reply:
    own = {"Origin": f"http://127.0.0.1:{stack.foo_port}", "Sec-Fetch-Site": "same-origin"}
    return stack.request("POST", "/foo", body, own | headers)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_foos_own_origin_may_send_json(running: Stack, content_type: str) -> None:
    assert _from_own_page(running, b"{}", {"Content-Type": content_type}).json["message"] == 3
    assert _from_own_page(running, b"", {}).json["message"] == 3


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "text/plain;application/json"}]
)
def test_a_browser_has_to_declare_json(running: Stack, headers: dict[str, str]) -> None:
    assert is_problem(_from_own_page(running, b"{}", headers), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    only_fetch = {"Sec-Fetch-Site": "none"} | headers
    assert is_problem(running.request("POST", "/foo", b"{}", only_fetch), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def test_a_refused_origin_is_shown_harmlessly(running: Stack) -> None:
    reply = running.request("GET", "/health", headers={"Origin": "http://ugly\x9b31m\xe9.example" + "x" * 5000})
    assert is_problem(reply, HTTPStatus.FORBIDDEN)
    assert "\x9b" not in reply.text
    assert len(reply.text) < 500
