"""Two hundred ways to misbehave: each besieger holds one connection and does one thing that no honest client does.

A besieger is a coroutine that runs until it is cancelled or the other side closes its connection. Each draws its
actions from its own random generator, so a seed determines the whole siege.
"""

import asyncio
import contextlib
import json
import random
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

VERSION = "2026-04-01"
CALL_MS = 20_000
"""Deadline of calls that nobody can answer, so that a siege leaves nothing behind that would run for a day."""
LARGE = 4 * 2**20 - 4_096
"""Just below the server's limit for a body."""
TRICKLE_SECONDS = 0.5
"""Pause between two bytes of a deliberately slow client."""
FLOOD_SECONDS = 0.25
"""Pause between two requests of a greedy client: the siege must not simply overload the machine."""


class Target(Struct, frozen=True):
    """The ports of the stack under siege, and one on which nobody listens."""

    server: int
    foo: int
    dead: int


class Line:
    """A connection to ``port``; errors on it end the connection quietly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def trickle(self, data: bytes) -> None:
        for byte in data:
            await self.say(bytes([byte]))
            await asyncio.sleep(TRICKLE_SECONDS)

    async def ask(self, data: bytes) -> bytes:
        """Send a whole request and read the beginning of the answer."""
        await self.say(data)
        return await self.reader.read(65_536)

    async def hold(self) -> None:
        """Send nothing, and read until the other side closes the connection."""
        while await self.reader.read(65_536):
            pass

    async def hold_without_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()


type Besieger = Callable[[Target, random.Random], Awaitable[None]]

KINDS: dict[str, Besieger] = {}
"""Every kind by its name."""


def besieger(kind: Besieger) -> Besieger:
    KINDS[kind.__name__] = kind
    return kind


async def besiege(kind: str, seed: int, target: Target) -> None:
    """Misbehave in that way until cancelled; reconnect whenever the connection ends."""
    rng = random.Random(seed)
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await KINDS[kind](target, rng)
        await asyncio.sleep(FLOOD_SECONDS)


@contextlib.asynccontextmanager
async def line(port: int) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def post(body: bytes, *, port: int, path: str = "/", **fields: str) -> bytes:
    head = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)), **fields}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def get(path: str, *, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def envelope(kind: str, **data: Any) -> bytes:
    head = {"corrId": "siege", "version": VERSION}
    return json.dumps({"kind": kind, "head": head, "data": data}).encode()


def create(id: str, data: str = "", **tags: str) -> bytes:
    named = {f"resonate:{name}": value for name, value in {"external": "true", **tags}.items()}
    deadline = time.time_ns() // 1_000_000 + CALL_MS
    return envelope("promise.create", id=id, timeoutAt=deadline, param={"data": data} if data else {}, tags=named)


def call(function: str) -> str:
    """Return a parameter that calls ``function``, as the SDK encodes it."""
    return b64encode(json.dumps({"func": function, "args": [], "version": 1}).encode()).decode()


def fresh_id(rng: random.Random) -> str:
    return f"siege-{rng.getrandbits(64):016x}"


# ── half of something ────────────────────────────────────────────────────────────────────────────────────────────────


@besieger
async def half_a_head(target: Target, rng: random.Random) -> None:
    async with line(rng.choice([target.server, target.foo])) as connection:
        await connection.say(b"POST /foo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-")
        await connection.hold()


@besieger
async def a_head_byte_by_byte(target: Target, rng: random.Random) -> None:
    async with line(rng.choice([target.server, target.foo])) as connection:
        await connection.trickle(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Padding: " + b"x" * 200)


@besieger
async def half_a_body(target: Target, rng: random.Random) -> None:
    port, path = rng.choice([(target.server, "/"), (target.foo, "/foo")])
    request = post(b"{" + b" " * 4_000, port=port, path=path)
    async with line(port) as connection:
        await connection.say(request[: rng.randrange(len(request) - 4_000, len(request) - 1)])
        await connection.hold()


@besieger
async def a_large_body_without_its_end(target: Target, _: random.Random) -> None:
    async with line(target.server) as connection:
        await connection.say(post(b" " * LARGE, port=target.server)[:-10])
        await connection.hold()


@besieger
async def chunks_without_end(target: Target, rng: random.Random) -> None:
    port, path = rng.choice([(target.server, "/"), (target.foo, "/foo")])
    async with line(port) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.say(head.encode())
        while True:
            await connection.say(b"100\r\n" + b" " * 256 + b"\r\n")
            await asyncio.sleep(TRICKLE_SECONDS)


@besieger
async def half_closed_after_a_request(target: Target, _: random.Random) -> None:
    async with line(target.foo) as connection:
        await connection.say(post(b"{}", port=target.foo, path="/foo"))
        connection.writer.write_eof()
        await connection.hold()


# ── readers that do not read ─────────────────────────────────────────────────────────────────────────────────────────


@besieger
async def a_stream_that_is_never_read(target: Target, rng: random.Random) -> None:
    async with line(target.server) as connection:
        await connection.say(get(f"/poll/{fresh_id(rng)}/x", port=target.server))
        await connection.hold_without_reading()


@besieger
async def a_deaf_viewer_of_the_page(target: Target, _: random.Random) -> None:
    async with line(target.server) as connection:
        await connection.say(get("/ui/api/events", port=target.server))
        await connection.hold_without_reading()


@besieger
async def answers_that_are_never_read(target: Target, _: random.Random) -> None:
    async with line(target.server) as connection:
        request = post(envelope("promise.search", limit=1_000), port=target.server)
        for _request in range(20):
            await connection.say(request)
        await connection.hold_without_reading()


@besieger
async def an_answer_of_foo_that_is_never_read(target: Target, _: random.Random) -> None:
    async with line(target.foo) as connection:
        await connection.say(post(b'{"pause": 1}', port=target.foo, path="/foo"))
        await connection.hold_without_reading()


@besieger
async def waiting_for_an_hour(target: Target, _: random.Random) -> None:
    async with line(target.foo) as connection:
        await connection.say(post(b'{"pause": 3600}', port=target.foo, path="/foo"))
        await connection.hold()


# ── too much of something ────────────────────────────────────────────────────────────────────────────────────────────


async def _flood(target: Target, request: Callable[[], bytes]) -> None:
    async with line(target.server) as connection:
        while await connection.ask(request()):
            await asyncio.sleep(FLOOD_SECONDS)


@besieger
async def tasks_for_nobody(target: Target, rng: random.Random) -> None:
    """bar's worker receives each one, knows no such function, and releases the task."""
    tags = {"target": "poll://any@service-bar"}
    await _flood(target, lambda: post(create(fresh_id(rng), call("no_such_function"), **tags), port=target.server))


@besieger
async def parameters_that_nobody_can_read(target: Target, rng: random.Random) -> None:
    tags = {"target": "poll://any@service-baz"}
    await _flood(target, lambda: post(create(fresh_id(rng), "%%%", **tags), port=target.server))


@besieger
async def ids_with_control_characters(target: Target, rng: random.Random) -> None:
    tags = {"target": "poll://any@service-bar"}
    await _flood(target, lambda: post(create(f"{fresh_id(rng)}\x01", **tags), port=target.server))


@besieger
async def pushes_to_a_dead_address(target: Target, rng: random.Random) -> None:
    tags = {"target": f"http://127.0.0.1:{target.dead}/"}
    await _flood(target, lambda: post(create(fresh_id(rng), **tags), port=target.server))


@besieger
async def searches_that_find_nothing(target: Target, _: random.Random) -> None:
    search = envelope("promise.search", tags={"no": "such tag"})
    await _flood(target, lambda: post(search, port=target.server))


@besieger
async def heartbeats_for_a_thousand_strangers(target: Target, rng: random.Random) -> None:
    def beat() -> bytes:
        tasks = [{"id": fresh_id(rng), "version": 1} for _ in range(1_000)]
        return post(envelope("task.heartbeat", pid="p", tasks=tasks), port=target.server)

    await _flood(target, beat)


@besieger
async def large_results_for_a_listener_who_is_away(target: Target, rng: random.Random) -> None:
    id = fresh_id(rng)
    async with line(target.server) as connection:
        listener = envelope("promise.register_listener", awaited=id, address="poll://uni@siege/away")
        settle = envelope("promise.settle", id=id, state="resolved", value={"data": "x" * 300_000})
        for request in (create(id), listener, settle):
            await connection.ask(post(request, port=target.server))
        await connection.hold()


# ── things that make no sense ────────────────────────────────────────────────────────────────────────────────────────


@besieger
async def noise(target: Target, rng: random.Random) -> None:
    async with line(rng.choice([target.server, target.foo])) as connection:
        await connection.say(rng.randbytes(rng.randrange(1, 2_000)))
        await connection.hold()


@besieger
async def json_that_nests_too_deep(target: Target, rng: random.Random) -> None:
    port, path = rng.choice([(target.server, "/"), (target.foo, "/foo")])
    async with line(port) as connection:
        await connection.ask(post(b"[" * 10_000, port=port, path=path))
        await connection.hold()


@besieger
async def a_page_of_another_origin(target: Target, rng: random.Random) -> None:
    port, path = rng.choice([(target.server, "/"), (target.foo, "/foo")])
    body = post(b"{}", port=port, path=path, Origin="https://elsewhere.example", Content_Type="text/plain")
    async with line(port) as connection:
        assert b" 403 " in (await connection.ask(body)).split(b"\r\n")[0]


@besieger
async def a_name_that_was_bound_anew(target: Target, rng: random.Random) -> None:
    port, path = rng.choice([(target.server, "/"), (target.foo, "/foo")])
    async with line(port) as connection:
        assert b" 421 " in (await connection.ask(post(b"{}", port=port, path=path, Host="evil.test"))).split(b"\r\n")[0]


@besieger
async def names_that_forge_log_lines(target: Target, _: random.Random) -> None:
    async with line(target.server) as connection:
        await connection.say(get("/poll/forged%0A%1B%5B31mERROR/x%0D", port=target.server))
        await connection.hold()


@besieger
async def coming_and_going(target: Target, rng: random.Random) -> None:
    async with line(rng.choice([target.server, target.foo])):
        await asyncio.sleep(rng.random())
