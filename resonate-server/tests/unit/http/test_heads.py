"""Which requests stay in the fast lane: only those that HTTP lets nobody read otherwise."""

import asyncio
import random
import re

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser
from resonate.connections import HttpConnection
from resonate.send import Sender
from resonate.transport import Transport

from resonate_server.http.lane import MAX_BODY_BYTES, HttpHead, read_head
from resonate_server.http.stream import _ms

HOST = "Host: localhost:8001"
LENGTH = "Content-Length: 12"


def head(*lines: str, request: str = "POST / HTTP/1.1") -> HttpHead | None:
    return read_head("\r\n".join([request, *lines]).encode("latin-1"), "localhost:8001".__eq__)


@pytest.mark.parametrize("origin", [[], ["resonate:origin: a"]], ids=["", "with the origin that SDKs send"])
def test_a_plain_request_stays(origin: list[str]) -> None:
    for lines in ([HOST, LENGTH, *origin], [*origin, HOST, LENGTH]):
        assert head(*lines) == HttpHead(length=12, authorization=None)
    assert head(HOST, "Content-Length: \t 12 \t", "authorization:Bearer x ", *origin) == HttpHead(12, "Bearer x")


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


def test_any_other_request_line_leaves() -> None:
    for line in ("GET / HTTP/1.1", "POST /?a=b HTTP/1.1", "POST /health HTTP/1.1", "POST / HTTP/1.0"):
        assert head(HOST, LENGTH, request=line) is None
    assert head(HOST, LENGTH, request="POST http://localhost/ HTTP/1.1") is None


LEAVING = {
    "may change something": (
        "Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: websocket", "Connection: close",
        "Connection: keep-alive, Upgrade", "Content-Encoding: gzip", "Cookie: a=b", LENGTH, "Host: twice",
        "resonate:origin: a\r\nresonate:origin: b", "X-Unknown: 1", "",
    ),
    "of a browser": (
        "Origin: http://localhost:8001", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors", "Sec-Fetch-New: ?",
    ),
    "of an SDK, but unknown": ("resonate: other", "resonate:origin: a\x00b", "resonate:origin:\xe9"),
}  # fmt: skip


@pytest.mark.parametrize("lines", LEAVING.values(), ids=LEAVING)
def test_a_request_with_such_a_line_leaves(lines: tuple[str, ...]) -> None:
    for line in lines:
        assert head(HOST, LENGTH, line) is None, line


def test_a_request_to_another_host_or_of_unknown_or_large_size_leaves() -> None:
    assert head(HOST, f"Content-Length: {MAX_BODY_BYTES}") is not None
    for host in ("evil.test:8001", "", "localhost:8001, localhost:8001"):
        assert head(f"Host: {host}", LENGTH) is None
    for size in (f"Content-Length: {MAX_BODY_BYTES + 1}", "Content-Length: \u00b2"):
        assert head(HOST, size) is None
    assert [head(LENGTH), head(HOST), head()] == [None] * 3


# ── what stays is read alike by aiohttp: request smuggling relies on two parsers that disagree ──

REQUEST = b"POST / HTTP/1.1"
FIELDS = [b"Host: a", b"Accept: */*", b"resonate:origin: o", b"Connection: keep-alive", b"Authorization: Bearer x",
          b"Content-Length: 12", b"User-Agent: sdk"]  # fmt: skip
ODDITIES = [
    b"\r\n", b"\r", b"\n", b"\t", b" ", b"\0", b"\x0b", b"\x0c", b"\x7f", b"\x85", b"\xe9", b":", b",", b";", b'"',
    b"(c)", b"0", b"1", b"+", b"-", b"_", b"\r\n ", b"chunked", b"keep-alive", b"HTTP/1.0", b"GET / ",
    b"Content-Length: 5\r\n", b"Content-Length:7", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Upgrade: h2c\r\n", b"Host: b\r\n", b"resonate:origin: a\r\n", b"\r\nresonate: origin: x",
    b"Expect: 100-continue\r\n", b"Authorization: Bearer y\r\n",
]  # fmt: skip


def odd(rng: random.Random) -> bytes:
    fields = rng.sample(FIELDS, rng.randint(1, len(FIELDS)))
    head = bytearray(b"\r\n".join([REQUEST, *fields]))
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        seams = [place for found in re.finditer(rb":|\r\n", head) for place in found.span()]
        at = rng.choice([rng.randrange(len(head) + 1), *rng.choices(seams or [0], k=2)])
        match rng.randrange(3):
            case 0:
                head[at:at] = rng.choice(ODDITIES)
            case 1:
                del head[at : at + rng.choice([1, 2, 5])]
            case 2:
                head[at : at + 1] = rng.randbytes(1)
    return bytes(head).partition(b"\r\n\r\n")[0]


async def test_aiohttp_reads_the_same_in_whatever_stays() -> None:
    rng, stayed = random.Random(0), 0
    for _ in range(5_000):
        raw = odd(rng)
        if (read := read_head(raw, lambda _: True)) is None:
            continue
        stayed += 1
        loop = asyncio.get_running_loop()
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        sent = raw + b"\r\n\r\n" + b"{" * read.length + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
        ((request, body), (following, _)), is_upgraded, _ = parser.feed_data(sent)
        assert (request.method, request.path, request.version, following.path) == ("POST", "/", (1, 1), "/next"), raw
        assert not (request.should_close or request.upgrade or request.chunked or request.compression or is_upgraded), (
            raw
        )
        assert body.total_bytes == read.length, raw
        assert request.headers.get("Authorization") == read.authorization, raw
    assert stayed > 300


def test_a_promise_is_a_number_of_ms() -> None:
    for promised in ("400", "100", "999999"):
        assert _ms(promised) == int(promised)
    for promised in ("", "0", "99", "-1", "0.5", "1e3", "soon", "9" * 7, "٤٠٠", "²²²"):
        assert _ms(promised) is None
