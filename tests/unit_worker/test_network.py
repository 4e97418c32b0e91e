"""Requests to a server over connections that are kept alive, whatever happens to them."""

import asyncio
import errno
import itertools
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness.certificate import make_certificate
from resonate.error import ConnectorError

from worker import network
from worker.network import HttpNetwork, reason_of

from .group import until

SWALLOWED = b""
ENDS = b"\0"
"""The server closes the connection after these bytes of an answer."""


def answer(text: str, status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer of the server."""
    return page(json.dumps({"kind": text}), status, *headers)


def page(text: str, status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer of somebody else."""
    body = text.encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


class Server:
    """Answers each request with the next of the given answers, and then with ``last``; ``network`` sends to it."""

    def __init__(self, *answers: bytes, secured: ssl.SSLContext | None = None) -> None:
        self.answers: Iterator[bytes] = itertools.chain(answers, itertools.repeat(answer("last")))
        self.requests: list[tuple[int, bytes]] = []
        """The number of the connection, and the request, for each."""
        self.connections = 0
        self.open: dict[int, asyncio.StreamWriter] = {}
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.secured = secured

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", ssl=self.secured)
        self.url = f"http{'s' if self.secured else ''}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self.network = HttpNetwork(self.url, None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.network.stop()
        self._server.close()
        for writer in self.open.values():
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        name = self.connections
        self.open[name] = writer
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2]))
                self.requests.append((name, head + body))
                await self.goes_on.wait()
                sent, ends, _ = next(self.answers).partition(ENDS)
                writer.write(sent)
                if ends:
                    break
        writer.close()
        self.open.pop(name)

    @property
    def used(self) -> list[int]:
        return [connection for connection, _ in self.requests]

    async def ask(self, count: int = 1, kind: str = "promise.get") -> list[str]:
        """Send that many requests, one after the other, and return what they were told."""
        request = json.dumps({"kind": kind, "data": "ü"}, ensure_ascii=False)
        async with asyncio.timeout(60):
            return [json.loads(await self.network.send(request))["kind"] for _ in range(count)]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses so long that a test in which one occurs fails."""
    monkeypatch.setattr(network, "pause_after", lambda _: 3_600)


async def test_a_request_is_a_post_to_the_server_s_path_with_the_token() -> None:
    async with Server() as server:
        server.network = HttpNetwork(f"{server.url}/inside/", "secret")
        assert await server.ask() == ["last"]
        head, _, body = server.requests[0][1].decode().partition("\r\n\r\n")
    assert head.split("\r\n") == [
        "POST /inside/ HTTP/1.1",
        f"Host: {server.url.removeprefix('http://')}",
        "Content-Type: application/json",
        "Authorization: Bearer secret",
        "Content-Length: 37",
    ]
    assert body == '{"kind": "promise.get", "data": "ü"}'


ANSWERS: dict[str, tuple[list[bytes], list[int]]] = {
    # What the server sends, and the connections of the two requests, the second of which may be repeated at once.
    "of any status": ([answer("told", "500 Internal Server Error")], [1, 1]),
    "in chunks": (
        [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"kind":"\r\n6\r\ntold"}\r\n0\r\n\r\n'],
        [1, 1],
    ),
    "after an interim one": ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer("told")], [1, 1]),
    # As that of a proxy that speaks HTTP/1.0: the request was repeated forever, although it was answered.
    "that ends with its connection": ([b'HTTP/1.0 200 OK\r\n\r\n{"kind":"told"}' + ENDS], [1, 2]),
    "that announces the end of its connection": ([answer("told", "200 OK", "Connection: close")], [1, 2]),
    "whose connection is closed while it is kept": ([answer("told"), ENDS], [1, 1, 2]),
    "followed by one that nobody asked for": ([answer("told") + answer("and a trap")], [1, 2]),
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("answers", "used"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_read(answers: list[bytes], used: list[int]) -> None:
    async with Server(*answers) as server:
        assert await server.ask(2) == ["told", "last"]
        assert server.used == used


@pytest.mark.usefixtures("at_once")
async def test_a_connection_that_was_idle_too_long_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Server() as server:
        await server.ask()
        monkeypatch.setattr(network, "IDLE_SECONDS", 0)
        await server.ask()
        assert server.used == [1, 2]
        await until(lambda: 1 not in server.open)


async def test_concurrent_requests_use_separate_connections_up_to_the_limit() -> None:
    async with Server() as server:
        server.goes_on.clear()
        server.network = HttpNetwork(server.url, None, limit=2)
        sending = [asyncio.create_task(server.network.send("a")) for _ in range(5)]
        await until(lambda: len(server.requests) == 2)
        server.goes_on.set()
        async with asyncio.timeout(60):
            assert await asyncio.gather(*sending) == ['{"kind": "last"}'] * 5
        assert sorted(server.used[:2]) == [1, 2] and server.connections == 2


FAILS = {
    "ends": ENDS,
    "ends within its head": b"HTTP/1.1 200 O" + ENDS,
    "ends within its body": answer("told")[:-1] + ENDS,
    "is not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "asks for another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "does not come": SWALLOWED,
    "comes in part": answer("told")[:-1],
}


@pytest.mark.parametrize("fails", FAILS.values(), ids=FAILS)
async def test_a_request_whose_answer_fails_is_retried_on_another_connection(
    fails: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "ANSWER_SECONDS", 0.5)
    async with Server(fails) as server:
        assert await server.ask() == ["last"]
        assert server.requests[0][1] == server.requests[1][1]
        assert server.used[:2] == [1, 2]


HTML = "<html><h1>Bad gateway</h1></html>"
FOR_LATER = {
    # What comes instead of an answer, and whether also a request that begins a call is sent again.
    "the page of a proxy that reaches no server": (page(HTML, "502 Bad Gateway"), True),
    # As by an ingress while no server is ready, by a firewall, and by a proxy with a fault of its own.
    "the page of a proxy that knows no server": (page(HTML, "404 Not Found"), True),
    "a proxy that forbids it": (page(HTML, "403 Forbidden"), True),
    "a proxy that fails": (page(HTML, "500 Internal Server Error"), True),
    "JSON by such a proxy": (page('{"message": "no healthy upstream"}', "503 Service Unavailable"), True),
    "a proxy's limit": (page("slow down", "429 Too Many Requests", "Retry-After: 1"), True),
    "a page to log in": (page(HTML), True),
    "the way to such a page": (page("", "302 Found", "Location: /login"), True),
    "half of an answer": (page('{"kind": "told", "data'), True),
    "nothing": (page(""), True),
    "no room in the server": (page("too many requests at a time; try again later", "503 Service Unavailable"), True),
    "a server that cannot store anything": (answer("told", "503 Service Unavailable"), False),
    "a server that is overloaded": (answer("told", "429 Too Many Requests"), False),
}


@pytest.mark.parametrize(("told", "always"), FOR_LATER.values(), ids=FOR_LATER)
async def test_what_is_no_answer_of_the_server_or_one_for_later_does_not_end_a_request_for_a_task(
    told: bytes, always: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would give the task back: what its function has just done was done again by the next attempt."""
    monkeypatch.setattr(network, "BUSY_SECONDS", 0)
    async with Server(told, told) as server:
        assert await server.ask(kind="task.fence") == ["last"]
        assert len(server.requests) == 3
    for kind in ("promise.create", "task.create"):
        async with Server(told) as server:
            assert await server.ask(kind=kind) == ["last" if always else "told"]


async def test_a_page_that_says_no_ends_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BUSY_SECONDS", 3_600)
    for status in ("400 Bad Request", "413 Content Too Large"):
        async with Server(page(HTML, status)) as server, asyncio.timeout(60):
            assert await server.network.send('{"kind": "task.fence"}') == HTML


def test_an_answer_that_is_still_arriving_may_take_any_time() -> None:
    """The connection has no network here, because the test is only about time."""

    class Transport:
        unsent = 0

        def write(self, message: bytes) -> None: ...
        def abort(self) -> None: ...
        def get_write_buffer_size(self) -> int:
            return self.unsent

    async def look() -> None:
        transport, connection = Transport(), network._Connection()
        connection.connection_made(transport)  # type: ignore[arg-type]
        told, whole = connection.ask(b"a"), answer("told")
        for part in (whole[:9], whole[9:30], whole[30:-1]):
            seen = connection._received, transport.unsent
            connection.data_received(part)
            connection._look(*seen)
            transport.unsent += 1  # a request still being sent counts as well
            connection._look(*seen)
            assert not told.done()
        connection._look(connection._received, transport.unsent)
        with pytest.raises(TimeoutError, match="no answer for 20 s"):
            await told

    asyncio.run(look())


async def test_requests_wait_for_an_absent_server_and_are_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(network, "QUIET_SECONDS", -1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        lost = HttpNetwork(f"http://127.0.0.1:{unused.getsockname()[1]}", "secret")
        sending = [asyncio.create_task(lost.send("a")) for _ in range(3)]
        await until(lambda: caplog.messages)
        await asyncio.sleep(0.1)
        assert not any(each.done() for each in sending)
        await lost.stop()
        for each in sending:
            with pytest.raises(ConnectorError):
                await each
    assert caplog.messages == ["requests have been failing for 0 s and are retried: connection refused"]


async def test_one_address_of_a_name_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "NEXT_ADDRESS_SECONDS", 0.05)
    with socket.socket() as silent:  # its queue is full, so connecting gets no reply, as from a machine that is gone
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        async with Server() as server:
            there = ("127.0.0.1", int(server.url.rpartition(":")[2]))

            async def found(*_: Any, **__: Any) -> list[Any]:
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in (address, there)]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
            server.network = HttpNetwork("http://servers.example", None)
            assert await server.ask() == ["last"]
        for each in waiting:
            each.close()


async def test_the_connection_of_a_cancelled_request_is_not_reused() -> None:
    async with Server(answer("of the former")) as server:
        server.goes_on.clear()
        former = asyncio.create_task(server.network.send("a"))
        await until(lambda: server.requests)
        former.cancel()
        with pytest.raises(asyncio.CancelledError):
            await former
        server.goes_on.set()
        assert await server.ask() == ["last"]


async def test_stopping_fails_pending_requests_and_closes_all_connections() -> None:
    async with Server(answer("told")) as server:
        assert await server.ask() == ["told"]
        server.goes_on.clear()
        sending = [asyncio.create_task(server.network.send("a")) for _ in range(2)]
        await until(lambda: len(server.requests) == 3)
        await server.network.stop()
        for each in sending:
            with pytest.raises(ConnectorError):
                await each
        with pytest.raises(ConnectorError):
            await server.network.send("a")
        server.goes_on.set()
        await until(lambda: not server.open)
        assert server.connections == 2


@pytest.mark.parametrize("trusts", [False, True])
async def test_by_https_only_to_whom_the_system_s_certificates_know(
    trusts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    secured = make_certificate(certificate)
    if trusts:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with Server(secured=secured) as server:
        if trusts:
            assert await server.ask() == ["last"]
            return
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await server.ask()
        assert server.requests == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "whatever"), "connection refused"),
        (OSError(-1, ""), "oserror"),
        (OSError("in words"), "in words"),
        (TimeoutError(), "TimeoutError"),
        (aiohttp.ClientPayloadError("cut off"), "cut off"),
    ],
)
def test_errors_are_described_in_a_few_words(error: Exception, text: str) -> None:
    assert reason_of(error) == text
