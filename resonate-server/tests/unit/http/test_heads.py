"""What heads say: which requests stay in the fast lane, and what a worker promises with its stream.

Only unambiguous requests stay. Everything else is judged elsewhere, so leaving the lane is not an error."""

import asyncio

import pytest
from resonate.connections import HttpConnection
from resonate.send import Sender
from resonate.transport import Transport

from resonate_server.http.lane import MAX_BODY_BYTES, HttpHead, read_head
from resonate_server.http.stream import _ms

HOST = "Host: localhost:8001"
LENGTH = "Content-Length: 12"


def head(*lines: str, request: str = "POST / HTTP/1.1") -> HttpHead | None:
    return read_head("\r\n".join([request, *lines]).encode("latin-1"), "localhost:8001".__eq__)


def test_a_plain_request_stays() -> None:
    assert head(HOST, LENGTH) == HttpHead(length=12, authorization=None)


async def test_what_the_sdk_sends_stays(unused_tcp_port: int) -> None:
    heads: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait((await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n"))
        writer.close()

    network = HttpConnection(url=f"http://127.0.0.1:{unused_tcp_port}", auth="a.b.c")
    async with await asyncio.start_server(hear, "127.0.0.1", unused_tcp_port):
        asking = asyncio.create_task(Sender(Transport(network), "a.b.c").promise_get("some-id"))
        sent = read_head(await heads.get(), f"127.0.0.1:{unused_tcp_port}".__eq__)
    asking.cancel()
    await network.stop()

    assert sent is not None
    assert sent.authorization == "Bearer a.b.c"


@pytest.mark.parametrize("lines", [(LENGTH, "resonate:origin: a"), ("resonate:origin: a", LENGTH)])
def test_the_origin_that_sdks_send_is_ignored(lines: tuple[str, ...]) -> None:
    assert head(HOST, *lines) == HttpHead(length=12, authorization=None)


def test_a_second_origin_leaves() -> None:
    assert head(HOST, LENGTH, "resonate:origin: a", "resonate:origin: b") is None


def test_space_around_a_value_is_stripped() -> None:
    assert head(HOST, "Content-Length: \t 12 \t", "authorization:Bearer x ") == HttpHead(12, "Bearer x")


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.1", "POST /?a=b HTTP/1.1", "POST /health HTTP/1.1", "POST / HTTP/1.0", "POST / HTTP/2.0",
        "post / HTTP/1.1", "POST  / HTTP/1.1", "POST http://localhost/ HTTP/1.1", " POST / HTTP/1.1",
    ],
)  # fmt: skip
def test_any_other_request_line_leaves(request_line: str) -> None:
    assert head(HOST, LENGTH, request=request_line) is None


LEAVING = {
    "may change something": (
        "Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: websocket", "Connection: close",
        "Connection: keep-alive, Upgrade", "Content-Encoding: gzip", "Origin: http://elsewhere", "Cookie: a=b",
        "Content-Length: 12", "Host: twice", "X-Unknown: 1",
    ),
    "odd": (
        "no colon", ": no name", "Accept : space before the colon", " folded", "\tfolded",
        "Accept: a\rb", "Accept: a\nb",
        "Accept: \x00", "Accept: \x7f", "Accept: \xe9", "Acc\xe9pt: a", "", "Accept: a\r",
    ),
    "of a browser": (
        "Origin: http://localhost:8001", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-New: ?",
    ),
    "of an SDK, but unknown": ("resonate: other", "resonate:origin: a\x00b", "resonate:origin:\xe9"),
}  # fmt: skip


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{what}: {line!r}") for what, lines in LEAVING.items() for line in lines]
)
def test_a_request_with_such_a_line_leaves(line: str) -> None:
    assert head(HOST, LENGTH, line) is None


@pytest.mark.parametrize("length", ["", "-1", "+1", "1.0", "0x10", "1 2", "1,1", "1_0", "\u0661", "9" * 40])
def test_a_length_that_is_not_a_plain_number_leaves(length: str) -> None:
    assert read_head(f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: {length}".encode(), lambda _: True) is None


def test_a_large_body_leaves() -> None:
    assert head(HOST, f"Content-Length: {MAX_BODY_BYTES}") is not None
    assert head(HOST, f"Content-Length: {MAX_BODY_BYTES + 1}") is None


@pytest.mark.parametrize("host", ["evil.test:8001", "", "localhost:8001, localhost:8001"])
def test_a_request_to_another_host_leaves(host: str) -> None:
    assert head(f"Host: {host}", LENGTH) is None


@pytest.mark.parametrize("lines", [(LENGTH,), (HOST,), ()])
def test_a_request_without_host_or_length_leaves(lines: tuple[str, ...]) -> None:
    assert head(*lines) is None


@pytest.mark.parametrize("promised", ["400", "100", "999999"])
def test_a_promise_is_a_number_of_ms(promised: str) -> None:
    assert _ms(promised) == int(promised)


@pytest.mark.parametrize("promised", ["", "0", "99", "-1", "0.5", "1e3", "soon", "9" * 7, "٤٠٠", "²²²"])
def test_an_invalid_promise_is_ignored(promised: str) -> None:
    assert _ms(promised) is None
