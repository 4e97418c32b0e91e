"""Clients that send slowly, read nothing, or come in large numbers are dropped in time and do not affect others."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPResponse

import jwt
import psutil
import pytest
from harness.basics import free_port, wait_until
from harness.server import FAR, Client, ServerProcess
from integration.bystander import Bystander
from integration.calls import request as encode
from integration.servers import Start

from resonate_server.config import Settings
from resonate_server.http.app import MAX_METRICS_CONNECTIONS
from resonate_server.http.listening import MAX_NON_STREAM_CONNECTIONS

PATIENCE_S = 1.0
WAIT_S = 60.0
"""Time within which something that takes about :data:`PATIENCE_S` must happen, even on a busy machine."""
AT_ONCE_S = 20.0
"""Less than the usual patience, and less than a server waits for a peer that it has told to close."""
BYSTANDER_S = 2.0
"""Longest time that a small request takes on a busy machine."""
ENOUGH = 20
"""Number of small requests whose median counts: on a busy machine the first one may wait for many large ones."""
STALLED_S = 3.0
"""How long large or slow requests are kept up: a small request stuck behind them would take as long."""

MAX_BODY_BYTES = Settings().server.max_body_bytes
MAX_STREAMS = Settings().transports.http_poll.max_connections
MAX_RSS_MIB = 200
START = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
ODD = START + b"X-Odd: 1\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = START + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES
CHAIN = b"GET /ui/api/chain?id=wide HTTP/1.1\r\nHost: localhost\r\n\r\n"

HALF_SENT = {
    "half a request line": b"POST / HT",
    "half a head": START,
    "no body": START + b"Content-Length: 10\r\n\r\n",
    "half a body": START + b"Content-Length: 10\r\n\r\n{",
    "half a head for another path": b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
    "half an odd head": ODD,
    "half a body with an odd head": ODD + b"Content-Length: 10\r\n\r\n{",
    "half a large body": LARGE + b"{" * 100_000,
    "half a chunk": CHUNKED + b"ff\r\n{",
    "chunks without an end": CHUNKED + b"1\r\n{\r\n",
    "half a request to the page": b"POST /ui/api/actions/a HTTP/1.1\r\nHost: localhost\r\n"
    b"Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n",
}


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def impatient(start_for_all: Start, metrics_port: int) -> ServerProcess:
    return start_for_all(
        RESONATE_SERVER__CLIENT_TIMEOUT=str(int(PATIENCE_S * 1_000)),
        RESONATE_OBSERVABILITY__METRICS_PORT=str(metrics_port),
        RESONATE_UI__ACTIONS_URL="http://127.0.0.1:1",
    )


@pytest.fixture
def alone(start: Start) -> ServerProcess:
    """A server of its own for a test that measures its memory."""
    return start("db")


def memory_mib(server: ServerProcess) -> float:
    return float(psutil.Process(server.pid).memory_info().rss / 2**20)


type Open = Callable[..., socket.socket]


@pytest.fixture
def connect() -> Iterator[Open]:
    """Open connections that send something; they are closed after the test."""
    opened: list[socket.socket] = []

    def connection(port: int, data: bytes = b"") -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        opened.append(peer)
        peer.sendall(data)
        return peer

    yield connection
    for peer in opened:
        peer.close()


def request(text: bytes, start: bytes = START) -> bytes:
    return start + b"Content-Length: %d\r\n\r\n" % len(text) + text


def get(id: str, start: bytes = START) -> bytes:
    return request(encode("promise.get", id=id), start)


def large(id: str, token: str | None = None) -> bytes:
    """Return a body of the largest size, which creates a promise."""
    text = encode("promise.create", {"auth": token} if token else {}, id=id, timeoutAt=FAR, param={"data": ""})
    return text.replace(b'"data": ""', b'"data": "%b"' % (b"x" * (MAX_BODY_BYTES - len(text))))


def make_wide_chain(server: ServerProcess) -> None:
    """Create a chain whose answer to the page, :data:`CHAIN`, is large."""
    client = Client(server.port, timeout=WAIT_S)
    client.create("wide")
    wide = {f"t{number}": "\U0001f600" * 1_000 for number in range(60)}
    lineage = {"resonate:origin": "wide", "resonate:parent": "wide"}
    for number in range(24):
        client.call("promise.create", id=f"wide:{number}", timeoutAt=FAR, param={}, tags=wide | lineage)


def read_all(peer: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while chunk := peer.recv(65_536):
            data += chunk
    return data


def connections(server: ServerProcess) -> list[int]:
    """Return the client's port of each established connection."""
    return [
        each.raddr.port
        for each in psutil.Process(server.pid).net_connections("tcp")
        if each.status == psutil.CONN_ESTABLISHED and each.raddr
    ]


def is_open(server: ServerProcess, peer: socket.socket) -> bool:
    return peer.getsockname()[1] in connections(server)


def wait_until_closed(server: ServerProcess, peer: socket.socket) -> None:
    wait_until(lambda: not is_open(server, peer), "the connection is closed", WAIT_S, every=0.1)


@contextmanager
def unharmed(server: ServerProcess) -> Iterator[None]:
    """Check that meanwhile others are served, and that memory is bounded."""
    with Bystander(server) as bystander:
        yield
        wait_until(lambda: len(bystander.took) >= ENOUGH, "others are served")
    assert memory_mib(server) < MAX_RSS_MIB
    assert bystander.usual < BYSTANDER_S


@pytest.fixture(scope="module")
def answers(impatient: ServerProcess) -> dict[str, bytes]:
    """The answers to all half-sent requests, or nothing if the connection is just closed. They are sent concurrently
    because each body gets some seconds to arrive."""

    def answer(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", impatient.port), timeout=WAIT_S) as peer:
            peer.sendall(data)
            return peer.recv(65_536)

    with ThreadPoolExecutor(len(HALF_SENT)) as pool:
        return dict(zip(HALF_SENT, pool.map(answer, HALF_SENT.values()), strict=True))


class TestSlowClients:
    @pytest.mark.parametrize("what", HALF_SENT)
    def test_an_incomplete_request_is_not_waited_for(self, answers: dict[str, bytes], what: str) -> None:
        assert answers[what] == b"" or answers[what].split()[1] == b"408"

    def test_a_byte_now_and_then_is_too_slow(self, impatient: ServerProcess, connect: Open) -> None:
        peer = connect(impatient.port, START)
        end = time.monotonic() + WAIT_S
        while is_open(impatient, peer):
            assert time.monotonic() < end
            with suppress(OSError):
                peer.sendall(b"A")
            time.sleep(0.1)

    @pytest.mark.usefixtures("impatient")
    def test_the_metrics_port_does_not_wait_either(self, metrics_port: int, connect: Open) -> None:
        assert read_all(connect(metrics_port, b"GET /metrics HTTP/1.1\r\n")) == b""

    @pytest.mark.parametrize("head", [pytest.param(START, id="plain"), pytest.param(ODD, id="odd")])
    def test_a_client_that_does_not_read_its_answers_is_disconnected(
        self, impatient: ServerProcess, connect: Open, head: bytes
    ) -> None:
        client = impatient.client()
        assert client.post(large("unsent_bytes")).status == 200
        peer = connect(impatient.port, get("unsent_bytes", head) * 3)
        wait_until_closed(impatient, peer)

    def test_a_stream_that_is_not_read_is_closed(self, impatient: ServerProcess, connect: Open) -> None:
        client = impatient.client()
        peer = connect(impatient.port, b"GET /poll/deaf/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        peer.recv(1)
        client.create("told")
        client.call("promise.register_listener", awaited="told", address="poll://uni@deaf/1")
        client.call("promise.settle", id="told", state="resolved", value={"data": "x" * 4_000_000})

        wait_until_closed(impatient, peer)

    def test_a_stream_that_is_read_stays_open(self, impatient: ServerProcess, connect: Open) -> None:
        peer = connect(impatient.port, b"GET /ui/api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        end = time.monotonic() + 2 * PATIENCE_S
        while time.monotonic() < end:
            assert peer.recv(65_536)

    def test_nobody_was_slow_while_the_server_stood_still(self, impatient: ServerProcess, connect: Open) -> None:
        """It reads what has arrived meanwhile before it judges, whichever parser reads it."""
        kept = connect(impatient.port, get("nobody", ODD))
        assert b" 404 " in kept.recv(65_536)
        halves = {connect(impatient.port, whole[:cut]): whole[cut:] for whole, cut in (
            (get("nobody"), len(START)), (get("nobody"), -5), (get("nobody", ODD), len(ODD)), (get("nobody", ODD), -5),
            (request(large("half")), 100_000),
        )} | {kept: get("nobody", ODD)}  # fmt: skip
        assert impatient.client().call("promise.get", id="nobody").status == 404  # all of the above has been read
        impatient.freeze()
        senders = [threading.Thread(target=peer.sendall, args=(rest,)) for peer, rest in halves.items()]
        for sender in senders:
            sender.start()
        time.sleep(3 * PATIENCE_S)
        impatient.thaw()
        assert {peer.recv(65_536).split()[1] for peer in halves} == {b"404", b"200"}
        for sender in senders:
            sender.join()

    def test_many_clients_that_do_not_read_large_answers_neither_fill_the_memory_nor_delay_others(
        self, alone: ServerProcess, connect: Open
    ) -> None:
        client = Client(alone.port, timeout=WAIT_S)
        assert client.post(large("wanted")).status == 200
        for number in range(60):
            connect(alone.port, get("wanted", ODD if number % 2 else START) * 3)
        with unharmed(alone):
            assert client.call("promise.get", id="wanted").status == 200
            time.sleep(STALLED_S)

    def test_nor_do_many_viewers_of_a_large_chain(self, alone: ServerProcess, connect: Open) -> None:
        make_wide_chain(alone)
        for _ in range(100):
            connect(alone.port, CHAIN)
        with unharmed(alone):
            time.sleep(STALLED_S)

    def test_nor_do_many_viewers_of_long_events(self, alone: ServerProcess, connect: Open) -> None:
        client = Client(alone.port, timeout=WAIT_S)
        for number in range(300):
            client.create(f"{number:04}" + "\U0001f600" * 4_000)
        for number in range(32):
            past = b"GET /ui/api/events?past=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % (300 - number)
            connect(alone.port, past)
        with unharmed(alone):
            time.sleep(STALLED_S)

    def test_many_requests_at_once_on_one_connection_let_others_have_their_turn(
        self, alone: ServerProcess, connect: Open
    ) -> None:
        """Whichever parser reads them. On a busy machine, this client may come too late to see it, or the server have
        received more than it accepts before an answer."""
        other = connect(alone.port)

        def waits_for_few(one: bytes) -> bool:
            many, count = connect(alone.port), 150_000 // len(one)
            began = time.monotonic()
            many.sendall(one * count)
            other.sendall(get("nobody"))
            assert b" 404 " in other.recv(65_536)
            waited = time.monotonic() - began
            many.shutdown(socket.SHUT_WR)
            answers = read_all(many).count(b"HTTP/1.1 ")
            return answers == count and waited < (time.monotonic() - began) / 3

        for one in (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", get("nobody", ODD), get("nobody")):
            assert any(waits_for_few(one) for _ in range(8))


@contextmanager
def at_once() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE_S


class TestHalfClosedClients:
    """Clients that have sent all they want to and wait for the answers."""

    @pytest.mark.parametrize(
        ("data", "answers"),
        [
            pytest.param(get("nobody"), 1, id="in the lane"),
            pytest.param(get("nobody") * 20, 20, id="many in the lane"),
            pytest.param(get("nobody", ODD), 1, id="beside the lane"),
            pytest.param(get("nobody", ODD) * 3 + get("nobody") * 3, 6, id="many beside the lane"),
            pytest.param(request(large("half-closed")), 1, id="large"),
            pytest.param(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 1, id="another path"),
            pytest.param(get("nobody") + b"POST / HT", 1, id="with half a request behind"),
        ],
    )
    def test_all_requests_are_answered_and_then_the_connection_is_closed(
        self, server: ServerProcess, connect: Open, data: bytes, answers: int
    ) -> None:
        peer = connect(server.port, data)
        peer.shutdown(socket.SHUT_WR)
        with at_once():
            assert read_all(peer).count(b"HTTP/1.1 ") == answers

    @pytest.mark.parametrize("data", [b"", START, ODD, LARGE, CHUNKED])
    def test_a_request_that_can_never_be_completed_is_not_waited_for(
        self, server: ServerProcess, connect: Open, data: bytes
    ) -> None:
        peer = connect(server.port, data)
        peer.shutdown(socket.SHUT_WR)
        with at_once():
            assert b" 200 " not in read_all(peer)

    def test_a_worker_whose_stream_is_half_closed_is_gone(self, server: ServerProcess, connect: Open) -> None:
        peer = connect(server.port, b"GET /poll/g/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        peer.recv(1)
        peer.shutdown(socket.SHUT_WR)
        wait_until_closed(server, peer)


class TestBodies:
    def test_stalled_large_bodies_neither_fill_the_memory_nor_delay_others(self, alone: ServerProcess) -> None:
        peers = [socket.create_connection(("127.0.0.1", alone.port)) for _ in range(200)]
        with unharmed(alone):
            _send_as_much_as_is_taken(peers, LARGE + b"x" * (MAX_BODY_BYTES - 10), seconds=STALLED_S)
        for peer in peers:
            peer.close()
        assert alone.client().post(large("after")).status == 200

    def test_honest_large_bodies_wait_for_their_turn(self, alone: ServerProcess) -> None:
        with ThreadPoolExecutor(20) as pool:
            replies = pool.map(lambda number: Client(alone.port).post(large(f"l-{number}")), range(20))
        assert [reply.status for reply in replies] == [200] * 20
        assert memory_mib(alone) < MAX_RSS_MIB

    @pytest.mark.parametrize("head", [pytest.param(START, id="plain"), pytest.param(ODD, id="odd")])
    def test_many_half_sent_small_bodies_make_room_for_complete_ones(
        self, alone: ServerProcess, connect: Open, head: bytes
    ) -> None:
        half = head + b"Content-Length: 65000\r\n\r\n" + b"x" * 64_990
        peers = [connect(alone.port, half) for _ in range(300)]
        whole = encode("promise.create", id="s", timeoutAt=FAR, tags={"t": "x" * 60_000})
        assert alone.client().post(whole).status == 200
        assert b" 408 " in peers[0].recv(100)
        assert memory_mib(alone) < MAX_RSS_MIB

    @pytest.mark.parametrize("before", [ODD, CHUNKED + b"1\r\n{\r\n0\r\n"], ids=["heads", "trailers"])
    def test_many_endless_heads_do_not_fill_the_memory(self, alone: ServerProcess, before: bytes) -> None:
        """Ids in headers may be long, so each field may be; but not many fields on many connections."""
        peers = [socket.create_connection(("127.0.0.1", alone.port)) for _ in range(60)]
        fields = (b"A: " + b"a" * 65_000 + b"\r\n") * 120
        _send_as_much_as_is_taken(peers, before + fields, seconds=STALLED_S)
        memory = memory_mib(alone)
        for peer in peers:
            peer.close()

        assert memory < MAX_RSS_MIB
        assert alone.is_ready()

    def test_a_get_may_not_have_a_body(self, server: ServerProcess, connect: Open) -> None:
        """It would stay in memory for as long as a stream lives, and nothing would read it."""
        peer = connect(server.port, b"GET /poll/g/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcde")
        assert b" 400 " in peer.recv(100)

    def test_clients_without_a_token_do_not_take_memory_from_those_with_one(self, start: Start) -> None:
        server = start(RESONATE_AUTH__PUBLICKEY="none")
        token = jwt.encode({"role": "admin", "exp": time.time() + 3_600}, "k" * 32)
        strangers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        _send_as_much_as_is_taken(strangers, LARGE + b"x" * (MAX_BODY_BYTES - 10), seconds=1)
        text, head = large("mine", token), START + f"Authorization: Bearer {token}\r\n".encode()
        with at_once(), socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as mine:
            mine.sendall(request(text, head))
            assert mine.recv(100).split()[1] == b"200"
        for peer in strangers:
            peer.close()


def _send_as_much_as_is_taken(peers: list[socket.socket], data: bytes, seconds: float) -> None:
    """Send to all peers for the given time."""
    left = {peer: memoryview(data) for peer in peers}
    for peer in peers:
        peer.setblocking(False)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for peer, rest in list(left.items()):
            try:
                left[peer] = rest[peer.send(rest[:65_536]) :]
            except BlockingIOError:
                pass
            except OSError:
                del left[peer]
        time.sleep(0.05)


class TestConnections:
    def test_idle_connections_make_room_for_new_ones(self, start: Start, connect: Open) -> None:
        server = start(RESONATE_TRANSPORTS__HTTP_POLL__MAX_CONNECTIONS="1")
        oldest = connect(server.port)
        for _ in range(MAX_NON_STREAM_CONNECTIONS + 200):
            connect(server.port)

        assert server.client().call("promise.get", id="nobody").status == 404
        assert len(connections(server)) <= MAX_NON_STREAM_CONNECTIONS + 1
        assert read_all(oldest) == b""

    def test_new_connections_do_not_close_those_that_have_just_been_opened(
        self, impatient: ServerProcess, metrics_port: int, connect: Open
    ) -> None:
        peers = [connect(metrics_port) for _ in range(MAX_METRICS_CONNECTIONS + 20)]
        wait_until(lambda: len(connections(impatient)) >= MAX_METRICS_CONNECTIONS, "all places are taken")
        for peer in peers:
            peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

        assert [peer.recv(15) for peer in peers] == [b"HTTP/1.1 200 OK"] * len(peers)

    @pytest.mark.parametrize("ask", [pytest.param(get("wide:0", ODD), id="api"), pytest.param(CHAIN, id="page")])
    def test_idle_connections_do_not_keep_the_answers_that_were_read(
        self, alone: ServerProcess, connect: Open, ask: bytes
    ) -> None:
        assert alone.client().post(large("wide:0")).status == 200
        make_wide_chain(alone)
        for _ in range(60):
            answer = HTTPResponse(connect(alone.port, ask))
            answer.begin()
            assert answer.status == 200
            answer.read()
        assert memory_mib(alone) < MAX_RSS_MIB

    @pytest.mark.long
    def test_a_thousand_streams_are_served_and_their_places_are_free_once_they_break(
        self, start: Start, connect: Open
    ) -> None:
        server, crowd = start(), b"GET /poll/crowd/%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
        streams = [connect(server.port, crowd % number) for number in range(MAX_STREAMS)]
        assert all(b" 200 " in stream.recv(100) for stream in streams)
        assert server.client().call("promise.get", id="nobody").status == 404
        assert b" 503 " in connect(server.port, crowd % MAX_STREAMS).recv(100)
        for stream in streams:
            stream.close()
        wait_until(lambda: b" 200 " in connect(server.port, crowd % MAX_STREAMS).recv(100), "a stream is served")

    def test_a_shutdown_takes_at_most_two_seconds_whatever_is_open(self, start: Start, connect: Open) -> None:
        metrics_port = free_port()
        server = start("db", RESONATE_OBSERVABILITY__METRICS_PORT=str(metrics_port))
        assert server.client().post(large("big")).status == 200
        for data in HALF_SENT.values():
            for _ in range(5):
                connect(server.port, data)
        for number in range(5):
            connect(server.port, f"GET /poll/g/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            connect(server.port, b"GET /ui/api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connect(server.port, get("big") * 3)
            connect(server.port, get("big", ODD) * 3)
            connect(metrics_port, b"GET /metrics HTTP/1.1\r\n")
        asked = connect(server.port, get("nobody"))
        asked.recv(1, socket.MSG_PEEK)
        status, took = server.end()

        assert status == 0
        assert took < 10, f"{took:.2f} s: two are usual, half a minute is what clients have"
        assert b" 404 " in read_all(asked)
