"""Which requests stay in the fast lane: those that are beyond doubt. Everything else is judged elsewhere, so a head
that is refused here is no error."""

import pytest

from resonate_server.http.lane import MAX_BODY_BYTES, Head, read_head

HOST = "Host: localhost:8001"
LENGTH = "Content-Length: 12"


def head(*lines: str, request: str = "POST / HTTP/1.1") -> Head | None:
    return read_head("\r\n".join([request, *lines]).encode("latin-1"), "localhost:8001".__eq__)


def test_a_plain_request_stays() -> None:
    assert head(HOST, LENGTH) == Head(length=12, authorization=None)


def test_what_an_sdk_sends_stays() -> None:
    sent = head(
        HOST, "Accept: */*", "Accept-Encoding: gzip, deflate, br", "Connection: keep-alive", "User-Agent: python",
        "Content-Type: application/json", "content-length: 200", "Authorization: Bearer a.b.c",
    )  # fmt: skip

    assert sent == Head(length=200, authorization="Bearer a.b.c")


def test_space_around_a_value_is_none_of_it() -> None:
    assert head(HOST, "Content-Length: \t 12 \t", "authorization:Bearer x ") == Head(12, "Bearer x")


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.1", "POST /?a=b HTTP/1.1", "POST /health HTTP/1.1", "POST / HTTP/1.0", "POST / HTTP/2.0",
        "post / HTTP/1.1", "POST  / HTTP/1.1", "POST http://localhost/ HTTP/1.1", " POST / HTTP/1.1",
    ],
)  # fmt: skip
def test_any_other_request_line_leaves(request_line: str) -> None:
    assert head(HOST, LENGTH, request=request_line) is None


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: websocket", "Connection: close",
        "Connection: keep-alive, Upgrade", "Content-Encoding: gzip", "Origin: http://elsewhere", "Cookie: a=b",
        "Content-Length: 12", "Host: twice", "X-Unknown: 1",
    ],
)  # fmt: skip
def test_a_field_that_may_change_something_leaves(line: str) -> None:
    assert head(HOST, LENGTH, line) is None


@pytest.mark.parametrize(
    "line",
    [
        "no colon", ": no name", "Accept : space before the colon", " folded", "\tfolded",
        "Accept: a\rb", "Accept: a\nb",
        "Accept: \x00", "Accept: \x7f", "Accept: \xe9", "Acc\xe9pt: a", "", "Accept: a\r",
    ],
)  # fmt: skip
def test_an_odd_line_leaves(line: str) -> None:
    assert head(HOST, LENGTH, line) is None


@pytest.mark.parametrize("length", ["", "-1", "+1", "1.0", "0x10", "1 2", "1,1", "1_0", "\u0661", "9" * 40])
def test_a_length_that_is_no_plain_number_leaves(length: str) -> None:
    assert read_head(f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: {length}".encode(), lambda _: True) is None


def test_a_large_body_leaves() -> None:
    assert head(HOST, f"Content-Length: {MAX_BODY_BYTES}") is not None
    assert head(HOST, f"Content-Length: {MAX_BODY_BYTES + 1}") is None


@pytest.mark.parametrize("name", ["evil.test:8001", "", "localhost:8001, localhost:8001"])
def test_a_request_to_somebody_else_leaves(name: str) -> None:
    assert head(f"Host: {name}", LENGTH) is None


@pytest.mark.parametrize(
    "line", ["Origin: http://localhost:8001", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-New: ?"]
)
def test_whatever_a_browser_says_leaves(line: str) -> None:
    assert head(HOST, LENGTH, line) is None


@pytest.mark.parametrize("lines", [(LENGTH,), (HOST,), ()])
def test_a_request_without_host_or_length_leaves(lines: tuple[str, ...]) -> None:
    assert head(*lines) is None
