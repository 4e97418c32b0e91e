"""The stream from the server: messages, reconnection, and what is logged about it."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from worker import network
from worker.heartbeats import SIGN_SECONDS
from worker.stream import (
    CONNECT_SECONDS,
    HEARTBEAT_WITHIN,
    WRITE_WITHIN,
    Stream,
    _session,
    _watched_socket,
)

from .group import until


class Server:
    """A server with streams that a test feeds and ends."""

    def __init__(self) -> None:
        self.status = 200
        self.page = ""
        """Its answer, instead of a stream."""
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answer: dict[str, str] = {}
        self.asked = 0
        self.streams: list[web.StreamResponse] = []
        self.end = asyncio.Event()
        application = web.Application()
        application.router.add_get("/poll/{group}/{id}", self._stream)
        self.http = TestServer(application)

    @property
    def url(self) -> str:
        return str(self.http.make_url("")).rstrip("/")

    async def push(self, data: bytes) -> None:
        await self.streams[-1].write(data)

    def end_streams(self) -> None:
        self.end.set()
        self.end = asyncio.Event()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.status != 200 or self.page:
            return web.Response(status=self.status, text=self.page, content_type="text/html")
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **self.answer})
        await response.prepare(request)
        self.streams.append(response)
        await self.end.wait()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.http.start_server()
    yield server
    server.end.set()
    await server.http.close()


class Listener(Stream):
    """A stream, and what has arrived on it."""

    def __init__(self, url: str, token: str | None = None) -> None:
        super().__init__(url, "group", "me", token)
        self.received: list[str] = []
        self.changes: list[bool] = []
        self.recv(self.received.append)
        self.changed = self.changes.append

    async def connect(self) -> None:
        await self.start()
        await self.wait_until_connected()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("worker.stream.pause_after", lambda _: 0.01)
    caplog.set_level(logging.INFO)


@pytest.fixture
async def stream(server: Server) -> AsyncIterator[Listener]:
    stream = Listener(server.url)
    yield stream
    await stream.stop()


async def test_messages_arrive(server: Server, stream: Listener) -> None:
    await stream.connect()
    await server.push(b': keep-alive\n\ndata: {"kind":')
    await server.push(b'"execute"}\n\n')
    await until(lambda: stream.received)
    assert stream.received == ['{"kind":"execute"}']
    assert server.paths == ["/poll/group/me"]


async def test_letters_and_the_servers_time_arrive_however_they_are_torn_apart(
    server: Server, stream: Listener
) -> None:
    """Our server sends no letters beyond ASCII. Some of these would end a line for `str.splitlines`."""
    await stream.connect()
    for byte in ": time 1700000000123\n\ndata: Grüße\u2028\x85€ : time 7\n\n".encode():
        await server.push(bytes([byte]))
        await asyncio.sleep(0)
    await until(lambda: stream.received)
    assert stream.received == ["Grüße\u2028\x85€ : time 7"]
    assert 1_700_000_000_123 <= stream.clock() < 1_700_000_060_000


async def test_a_message_that_never_ends_is_not_kept(
    server: Server, stream: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.stream.MAX_LINE_BYTES", 1_000)
    await stream.connect()
    await server.push(b"data: " + b"x" * 2_000)
    await until(lambda: len(server.streams) == 2)


async def test_a_message_that_a_receiver_cannot_read_is_skipped(
    server: Server, stream: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    def read(message: str) -> None:
        json.loads(message)

    stream.recv(read)
    await stream.connect()
    await server.push(b"data: " + b"[" * 100_000 + b"\n\ndata: 1\n\n")
    await until(lambda: len(stream.received) == 2)
    assert len(server.streams) == 1
    assert "a message from the server could not be read: " in caplog.text


async def test_a_page_is_no_stream(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.page = "<html>Welcome to our hotel</html>"
    stream = Listener(server.url)
    await stream.start()
    await until(lambda: server.asked > 3)
    await stream.stop()
    assert stream.changes == []
    told = [record.getMessage() for record in caplog.records if record.name == "worker.stream"]
    mend = "Should RESONATE_URL be the server's, such as http://localhost:8001?"
    assert told == [f"there is no Resonate server at {server.url}; retrying. {mend} (it answers with text/html)"]


async def test_a_path_in_the_url_is_reported_once_with_the_url_to_take(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Listener(f"{server.url}/api/")
    await stream.start()
    await until(lambda: caplog.text.count("GET /api/poll/") > 3)
    await stream.stop()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    line = f"there is no Resonate server at {server.url}/api; retrying. Should RESONATE_URL be {server.url}?"
    assert told == [f"{line} (it answers 404)"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://user:password@127.0.0.1:1", "Cannot combine AUTHORIZATION header"),  # aiohttp's ValueError
        (f"http://{'a' * 70}.example", "too long"),  # Python's UnicodeError
        ("https", "it does not speak TLS; should the URL begin with http://?"),
    ],
    ids=["refused", "password", "name", "TLS"],
)
async def test_whatever_prevents_the_connection_is_logged_once(
    server: Server, url: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("worker.stream.QUIET_SECONDS", 0.1)
    url = server.url.replace("http", url) if url == "https" else url
    stream = Listener(url, "token")
    await stream.start()
    await until(lambda: "cannot reach" in caplog.text)
    await asyncio.sleep(0.1)
    await stream.stop()
    [told] = [record.getMessage() for record in caplog.records if record.name == "worker.stream"]
    assert told.startswith(f"cannot reach server {url}, retrying (")
    assert reason in told
    assert not stream.connected


async def test_a_hanging_server_that_is_one_of_several_is_left(server: Server, stream: Listener) -> None:
    server.answer = {WRITE_WITHIN: "200"}
    await stream.start()
    await until(lambda: len(server.streams) > 2)  # each has been silent for too long


async def test_a_server_that_accepts_a_connection_and_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be frozen, and one of several that share the address."""
    monkeypatch.setattr("worker.stream.GREETING_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        stream = Listener(f"http://127.0.0.1:{silent.getsockname()[1]}")
        await stream.start()
        accepted = [(await asyncio.wait_for(asyncio.get_running_loop().sock_accept(silent), 20))[0] for _ in range(2)]
        await stream.stop()
        for connection in accepted:
            connection.close()


@pytest.mark.parametrize("answer", [{}, {WRITE_WITHIN: "60000"}], ids=["the only one", "it keeps writing"])
async def test_other_servers_are_not_left(server: Server, stream: Listener, answer: dict[str, str]) -> None:
    server.answer = answer
    await stream.connect()
    await asyncio.sleep(0.2)
    for _ in range(3):
        await server.push(b": time 1\n\ndata: a\n\n")
    await until(lambda: len(stream.received) == 3)
    assert len(server.streams) == 1


async def test_an_unfinished_message_of_a_broken_stream_does_not_leak_into_the_next(
    server: Server, stream: Listener
) -> None:
    await stream.start()
    await until(lambda: len(server.streams) == 1 and stream.connected)
    await server.push(b"data: half of a mess")
    await asyncio.sleep(0.05)
    server.end_streams()
    await until(lambda: len(server.streams) == 2 and stream.connected)
    await server.push(b"age\n\ndata: whole\n\n")
    await until(lambda: stream.received)
    assert stream.received == ["whole"]


@pytest.mark.parametrize(("token", "expected"), [(None, None), ("secret", "Bearer secret")])
async def test_it_requests_events_and_sends_its_token(server: Server, token: str | None, expected: str | None) -> None:
    stream = Listener(server.url, token)
    await stream.connect()
    await stream.stop()
    [headers] = server.headers
    assert (headers["Accept"], headers.get("Authorization")) == ("text/event-stream", expected)


@pytest.mark.parametrize(("lasting", "streams"), [(0, 2), (60, 1)])
async def test_after_a_long_lived_stream_it_reconnects_at_once(
    server: Server, stream: Listener, monkeypatch: pytest.MonkeyPatch, lasting: float, streams: int
) -> None:
    monkeypatch.setattr("worker.stream.pause_after", lambda _: 3_600)
    monkeypatch.setattr("worker.stream.LASTING_SECONDS", lasting)
    await stream.connect()
    server.end_streams()
    await until(lambda: len(server.paths) == streams and stream.connected == (streams == 2))


@pytest.mark.parametrize("listens", [False, True])
async def test_it_promises_signs_of_life_and_knows_whether_the_server_expects_them(
    server: Server, stream: Listener, listens: bool
) -> None:
    server.answer = {HEARTBEAT_WITHIN: "4000"} if listens else {}
    assert not stream.expects_liveness
    await stream.connect()
    [headers] = server.headers
    assert int(headers[HEARTBEAT_WITHIN]) >= 3_000 * SIGN_SECONDS, "two may be lost"
    assert int(headers["Resonate-Reconnect-Within"]) == 300
    assert stream.expects_liveness == listens


async def test_a_brief_absence_of_the_server_is_not_logged(
    server: Server, stream: Listener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.stream.QUIET_SECONDS", 60)
    await stream.connect()
    server.end.set()
    await server.http.close()
    await until(lambda: not stream.connected)
    await asyncio.sleep(0.1)
    assert [line for line in caplog.messages if "cannot reach" in line] == []


async def test_a_vanished_or_unresponsive_peer_is_detected_but_a_stream_may_last() -> None:
    async with _session() as session:
        assert (session.timeout.connect, session.timeout.sock_connect) == (CONNECT_SECONDS, CONNECT_SECONDS)
        assert (session.timeout.total, session.timeout.sock_read) == (None, None)
    with _watched_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as watched:
        assert watched.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle, interval, count = (
                watched.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
            )
            assert idle + interval * count <= 10


async def test_it_reconnects_when_a_stream_ends_without_a_word(
    server: Server, stream: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.start()
    await until(lambda: len(server.paths) == 1 and stream.connected)
    server.end_streams()
    await until(lambda: len(server.paths) == 2 and stream.connected)
    assert stream.changes == [True, False, True]
    assert [line for line in caplog.messages if "server http" in line] == [f"connected to server {server.url}"]


async def test_an_outage_and_its_end_are_each_logged_once(
    server: Server, stream: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.connect()
    server.status = 503
    server.end.set()
    await until(lambda: "refuses" in caplog.text)
    await asyncio.sleep(0.1)
    server.status = 200
    await until(lambda: caplog.text.count("connected to server") == 2)
    assert caplog.text.count("refuses the stream, retrying (503)") == 1


@pytest.mark.parametrize(
    ("token", "status", "reason"),
    [
        (None, 401, "it requires a token, and RESONATE_TOKEN is not set"),
        ("wrong", 401, "it does not accept RESONATE_TOKEN"),
        ("limited", 403, "RESONATE_TOKEN does not permit listening for this worker's group"),
    ],
)
async def test_a_refused_token_is_logged_once_and_rarely_tried_again(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    status: int,
    reason: str,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("worker.stream.REFUSED_SECONDS", 0.02)
    monkeypatch.setattr("worker.stream.pause_after", lambda _: 3_600)
    server.status = status
    stream = Listener(server.url, token)
    await stream.start()
    await until(lambda: server.asked == 3)
    await stream.stop()
    assert stream.refusal == reason
    assert caplog.messages == [f"server {server.url} refuses this worker: {reason}"]


@pytest.mark.parametrize(("away", "pause"), [(0, 0.02), (1, 0.05), (3_600, 0.2)])
def test_workers_are_back_soon_however_long_the_server_was_away(away: float, pause: float) -> None:
    assert network.pause_after(away) == pause


async def test_a_server_that_ends_each_stream_is_asked_less_and_less_often(
    server: Server, stream: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause_after(away: float) -> float:
        pauses.append(away)
        return 0.05

    monkeypatch.setattr("worker.stream.pause_after", pause_after)
    server.end.set()
    await stream.start()
    await until(lambda: len(pauses) == 4)
    assert pauses == sorted(pauses) and pauses[-1] >= 0.15
