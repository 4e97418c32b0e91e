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


class Place(Struct, frozen=True):
    """A port under siege, and the path of requests there."""

    port: int
    path: str


class Target(Struct, frozen=True):
    """The ports of the stack under siege, and one on which nobody listens."""

    server: int
    foo: int
    dead: int

    def place(self, name: str) -> Place:
        return Place(self.server, "/") if name == "server" else Place(self.foo, "/foo")


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

    async def hold_half_closed(self) -> None:
        self.writer.write_eof()
        await self.hold()

    async def hold_without_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def line(port: int) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def post(body: bytes, at: Place, **fields: str) -> bytes:
    head = {"Host": f"127.0.0.1:{at.port}", "Content-Length": str(len(body)), **fields}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in head.items())
    return f"POST {at.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def get(path: str, at: Place) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{at.port}\r\n\r\n".encode()


def envelope(kind: str, **data: Any) -> bytes:
    head = {"corrId": "siege", "version": VERSION}
    return json.dumps({"kind": kind, "head": head, "data": data}).encode()


def create(id: str, data: str = "", target: str = "") -> bytes:
    tags = {"resonate:external": "true"} | ({"resonate:target": target} if target else {})
    deadline = time.time_ns() // 1_000_000 + CALL_MS
    return envelope("promise.create", id=id, timeoutAt=deadline, param={"data": data} if data else {}, tags=tags)


def call(function: str) -> str:
    """Return a parameter that calls ``function``, as the SDK encodes it."""
    return b64encode(json.dumps({"func": function, "args": [], "version": 1}).encode()).decode()


def fresh_id(rng: random.Random) -> str:
    return f"siege-{rng.getrandbits(64):016x}"


# ── something is sent, and then the connection is held ───────────────────────────────────────────────────────────────


type Request = Callable[[Place, random.Random], bytes]
type Then = Callable[[Line], Awaitable[None]]


def half_of(request: bytes, rng: random.Random) -> bytes:
    return request[: rng.randrange(len(request) - 4_000, len(request) - 1)]


SERVER, FOO, EITHER = ("server",), ("foo",), ("server", "foo")
HELD: dict[str, tuple[tuple[str, ...], Request, Then]] = {
    "half a head": (EITHER, lambda *_: b"POST /foo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-", Line.hold),
    "half a body": (EITHER, lambda at, rng: half_of(post(b"{" + b" " * 4_000, at), rng), Line.hold),
    "a large body without its end": (SERVER, lambda at, _: post(b" " * LARGE, at)[:-10], Line.hold),
    "half closed after a request": (FOO, lambda at, _: post(b"{}", at), Line.hold_half_closed),
    "a stream that is never read": (
        SERVER,
        lambda at, rng: get(f"/poll/{fresh_id(rng)}/x", at),
        Line.hold_without_reading,
    ),
    "a deaf viewer of the page": (SERVER, lambda at, _: get("/ui/api/events", at), Line.hold_without_reading),
    "answers that are never read": (
        SERVER,
        lambda at, _: post(envelope("promise.search", limit=1_000), at) * 20,
        Line.hold_without_reading,
    ),
    "an answer of foo that is never read": (FOO, lambda at, _: post(b'{"pause": 1}', at), Line.hold_without_reading),
    "waiting for an hour": (FOO, lambda at, _: post(b'{"pause": 3600}', at), Line.hold),
    "noise": (EITHER, lambda _, rng: rng.randbytes(rng.randrange(1, 2_000)), Line.hold),
    "JSON that nests too deep": (EITHER, lambda at, _: post(b"[" * 10_000, at), Line.hold),
    "names that forge log lines": (SERVER, lambda at, _: get("/poll/forged%0A%1B%5B31mERROR/x%0D", at), Line.hold),
}


async def hold(kind: str, target: Target, rng: random.Random) -> None:
    where, request, then = HELD[kind]
    at = target.place(rng.choice(where))
    async with line(at.port) as connection:
        await connection.say(request(at, rng))
        await then(connection)


# ── too much of something ────────────────────────────────────────────────────────────────────────────────────────────

FLOODS: dict[str, Callable[[Target, random.Random], bytes]] = {
    # bar's worker receives each one, knows no such function, and releases the task.
    "tasks for nobody": lambda _, rng: create(fresh_id(rng), call("no_such_function"), "poll://any@service-bar"),
    "parameters that nobody can read": lambda _, rng: create(fresh_id(rng), "%%%", "poll://any@service-baz"),
    "ids with control characters": lambda _, rng: create(f"{fresh_id(rng)}\x01", target="poll://any@service-bar"),
    "pushes to a dead address": lambda to, rng: create(fresh_id(rng), target=f"http://127.0.0.1:{to.dead}/"),
    "searches that find nothing": lambda *_: envelope("promise.search", tags={"no": "such tag"}),
    "heartbeats for a thousand strangers": lambda _, rng: envelope(
        "task.heartbeat", pid="p", tasks=[{"id": fresh_id(rng), "version": 1} for _ in range(1_000)]
    ),
}


async def flood(kind: str, target: Target, rng: random.Random) -> None:
    at = target.place("server")
    async with line(at.port) as connection:
        while await connection.ask(post(FLOODS[kind](target, rng), at)):
            await asyncio.sleep(FLOOD_SECONDS)


# ── requests that are refused ────────────────────────────────────────────────────────────────────────────────────────

REFUSED = {
    "a page of another origin": (403, {"Origin": "https://elsewhere.example", "Content_Type": "text/plain"}),
    "a name that points elsewhere": (421, {"Host": "evil.test"}),
}


async def be_refused(kind: str, target: Target, rng: random.Random) -> None:
    status, fields = REFUSED[kind]
    at = target.place(rng.choice(EITHER))
    async with line(at.port) as connection:
        answer = await connection.ask(post(b"{}", at, **fields))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


# ── anything else ────────────────────────────────────────────────────────────────────────────────────────────────────


async def send_a_head_byte_by_byte(_: str, target: Target, rng: random.Random) -> None:
    async with line(target.place(rng.choice(EITHER)).port) as connection:
        await connection.trickle(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Padding: " + b"x" * 200)


async def send_chunks_without_end(_: str, target: Target, rng: random.Random) -> None:
    at = target.place(rng.choice(EITHER))
    async with line(at.port) as connection:
        head = f"POST {at.path} HTTP/1.1\r\nHost: 127.0.0.1:{at.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.say(head.encode())
        while True:
            await connection.say(b"100\r\n" + b" " * 256 + b"\r\n")
            await asyncio.sleep(TRICKLE_SECONDS)


async def send_large_results_to_a_listener_who_is_away(_: str, target: Target, rng: random.Random) -> None:
    id, at = fresh_id(rng), target.place("server")
    async with line(at.port) as connection:
        listener = envelope("promise.register_listener", awaited=id, address="poll://uni@siege/away")
        settle = envelope("promise.settle", id=id, state="resolved", value={"data": "x" * 300_000})
        for request in (create(id), listener, settle):
            await connection.ask(post(request, at))
        await connection.hold()


async def come_and_go(_: str, target: Target, rng: random.Random) -> None:
    async with line(target.place(rng.choice(EITHER)).port):
        await asyncio.sleep(rng.random())


KINDS: dict[str, Callable[[str, Target, random.Random], Awaitable[None]]] = {
    **dict.fromkeys(HELD, hold),
    **dict.fromkeys(FLOODS, flood),
    **dict.fromkeys(REFUSED, be_refused),
    "a head byte by byte": send_a_head_byte_by_byte,
    "chunks without end": send_chunks_without_end,
    "large results for a listener who is away": send_large_results_to_a_listener_who_is_away,
    "coming and going": come_and_go,
}


async def besiege(kind: str, seed: int, target: Target) -> None:
    """Misbehave in that way until cancelled; reconnect whenever the connection ends."""
    rng = random.Random(seed)
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await KINDS[kind](kind, target, rng)
        await asyncio.sleep(FLOOD_SECONDS)
