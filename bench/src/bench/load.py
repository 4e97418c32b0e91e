"""Load on foo, on a Resonate server, or on the SDK alone, from a process of its own (`python -m bench.load`).

`run` starts the process, hands it a workload and returns what it measured. Chains share connections, each of which
carries one request at a time while others wait their turn. The time of a request counts from when it is sent.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, redirect_stdout
from io import StringIO
from itertools import count
from typing import Any, Literal, override
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct, field

from bench.workers import GROUPS, ChainPlayer

DRAIN_SECONDS = 120.0
"""After the last chain was begun. Chains that have not ended by then count as unfinished."""
REFUSED = 503
RIGHT_ANSWER = 3


class WrongAnswers(Exception):
    """Something was answered wrongly, so the measurements are worthless."""


type ChainKind = Literal["request to foo", "workers", "workers, to a pause", "SDK alone"]
"""What a chain is: a request to foo, the requests of `bench.workers`, or a call within the load's own process."""


class Workload(Struct, frozen=True):
    """Begin chains for ``seconds``: ``per_second`` of them, or else so that ``in_flight`` are always under way."""

    chain: ChainKind
    url: str = ""
    seconds: float = 0
    in_flight: int = 0
    per_second: float = 0
    connections: int = 0
    """0: as many as are in flight."""
    seed: int = 0
    token: str = ""
    core: int | None = None
    """The only core that the process may use."""


class Played(Struct):
    """Times in seconds; ``elapsed_s`` is from the first request to the last answer."""

    request_s: list[float] = field(default_factory=list)
    chain_s: list[float] = field(default_factory=list)
    starts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By the chain's id: when its first request was sent, and answered."""
    begun: int = 0
    refused: int = 0
    unfinished: int = 0
    elapsed_s: float = 0
    cpu_seconds: float = 0
    failure: str = ""

    @property
    def chains(self) -> int:
        return len(self.chain_s)

    @property
    def requests(self) -> int:
        return len(self.request_s)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.elapsed_s


def run(workload: Workload) -> Played:
    """Raises :class:`WrongAnswers`, also if chains are refused or do not end, unless they come at a fixed pace."""
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=msgspec.json.encode(workload), stdout=subprocess.PIPE, check=True)
    played = msgspec.json.decode(done.stdout, type=Played)
    if not workload.per_second and (played.refused or played.unfinished):
        played.failure = f"of {played.begun} chains {played.refused} are refused, and {played.unfinished} do not end"
    if played.failure:
        raise WrongAnswers(f"{workload.chain} {workload.url}: {played.failure}")
    return played


# ── in the process of its own: when chains are begun ──


class _Refused(Exception):
    """The server refused the chain, because it has enough to do."""


async def _play_chains(workload: Workload, played: Played, play_chain: Callable[[str], Awaitable[None]]) -> None:
    """``play_chain`` gets the id of the chain."""
    chance, began, cpu_before = random.Random(workload.seed), time.perf_counter(), time.process_time()

    def now() -> float:
        return time.perf_counter() - began

    async def play_one() -> None:
        began_at = now()
        played.begun += 1
        try:
            await play_chain(f"foo-{chance.getrandbits(64):016x}")
        except _Refused:
            played.refused += 1
        else:
            played.chain_s.append(now() - began_at)

    async def one_after_another() -> None:
        await play_one()
        while now() < workload.seconds:
            await play_one()

    try:
        async with asyncio.timeout(workload.seconds + DRAIN_SECONDS), asyncio.TaskGroup() as chains:
            for _ in range(workload.in_flight):
                chains.create_task(one_after_another())
            for number in range(round(workload.seconds * workload.per_second)):
                if (early := number / workload.per_second - now()) > 0:
                    await asyncio.sleep(early)
                chains.create_task(play_one())
    except TimeoutError:
        played.unfinished = played.begun - played.refused - played.chains
    played.elapsed_s, played.cpu_seconds = now(), time.process_time() - cpu_before


# ── what a chain is ──


def _authorization(workload: Workload) -> dict[str, str]:
    return {"Authorization": f"Bearer {workload.token}"} if workload.token else {}


class _Requests:
    """Requests to the workload's URL over its connections.

    HTTP/1.1 with as little work per request as possible: the load must cost less than what it measures.
    """

    def __init__(self, workload: Workload, played: Played) -> None:
        self._workload, self._played = workload, played
        address = urlsplit(workload.url)
        self._address = address.hostname, address.port
        fields = {"Host": address.netloc, "Content-Type": "application/json"} | _authorization(workload)
        lines = [f"POST {address.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self._head = "\r\n".join(lines)
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def open(self, _: AsyncExitStack) -> None:
        for _number in range(self._workload.connections or self._workload.in_flight):
            self._free.put_nowait(await asyncio.open_connection(*self._address))

    async def play(self, id: str) -> None:
        """One request to foo."""
        if await self._post(id, b"{}", f'"message":{RIGHT_ANSWER}') == REFUSED:
            raise _Refused

    async def _post(self, chain_id: str, body: bytes, expected: str) -> int:
        """Send a request with the header that the SDK adds. Return the status, which is 200 or `REFUSED`."""
        reader, writer = await self._free.get()
        sent_at = time.perf_counter()
        if writer.is_closing() or reader.at_eof():
            reader, writer = await asyncio.open_connection(*self._address)
        fields = f"{self._head}\r\nresonate:origin: {chain_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(fields.encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        answer = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        if b"connection: close" in head:
            writer.close()
        answered_at = time.perf_counter()
        self._free.put_nowait((reader, writer))
        self._played.starts.setdefault(chain_id, (sent_at, answered_at))
        if status != REFUSED and (status != 200 or expected.encode() not in answer.replace(b" ", b"")):
            raise WrongAnswers(f"{body[:100]!r} was answered with {status} {answer[:200]!r} instead of {expected}")
        self._played.request_s.append(answered_at - sent_at)
        return status


class Workers(_Requests):
    """One worker of each group: the Resonate server as a chain of `bench.workers` sees it."""

    def __init__(self, workload: Workload, played: Played) -> None:
        super().__init__(workload, played)
        self._numbers = count(1)
        self._told: defaultdict[tuple[str, int | None], asyncio.Future[None]] = defaultdict(asyncio.Future)

    @override
    async def open(self, opened: AsyncExitStack) -> None:
        await super().open(opened)
        endless = aiohttp.ClientTimeout(total=None)
        session = await opened.enter_async_context(aiohttp.ClientSession(self._workload.url, timeout=endless))
        for group in GROUPS:
            stream = await session.get(f"/poll/{group}/{self.pid(group)}", headers=_authorization(self._workload))
            if stream.status != 200:
                raise WrongAnswers(f"the stream of {group} is refused with {stream.status}")
            listening = asyncio.create_task(self._listen(stream))
            opened.callback(listening.cancel)

    @override
    async def play(self, id: str) -> None:
        chain = ChainPlayer(id, self)
        await (chain.play() if self._workload.chain == "workers" else chain.play_until_it_pauses())

    def pid(self, group: str) -> str:
        """Return the id of the group's worker."""
        return f"{group}-{self._workload.seed}"

    async def ask(self, chain_id: str, kind: str, data: Any) -> None:
        """Send a request on behalf of a chain. Raises if the answer is not the usual one."""
        corr_id = f"sr-{next(self._numbers):032x}"
        head = {"corrId": corr_id, "version": "2026-04-01"}
        status = await self._post(chain_id, msgspec.json.encode({"kind": kind, "head": head, "data": data}), corr_id)
        if status == REFUSED:
            if kind == "task.create":
                raise _Refused
            raise WrongAnswers(f"{kind} of a chain that was begun is refused")

    async def wait_for(self, id: str, version: int | None) -> None:
        """Wait until a worker was offered this version of the task, or (``None``) this promise was reported settled."""
        await self._told[id, version]

    async def _listen(self, stream: aiohttp.ClientResponse) -> None:
        async for line in stream.content:
            if line.startswith(b"data: "):
                data = msgspec.json.decode(line[6:])["data"]
                subject = data.get("task") or data["promise"]
                told = self._told[subject["id"], subject.get("version")]
                if not told.done():
                    told.set_result(None)


class _Sdk:
    """The services' foo, bar and baz in this process, on the SDK's own connection, without a server."""

    def __init__(self, _: Workload, played: Played) -> None:
        self._played = played

    async def open(self, opened: AsyncExitStack) -> None:
        from resonate.connections import LocalConnection
        from resonate.resonate import Resonate

        from bar import bar
        from baz import baz
        from foo import foo
        from worker.logs import configure_logging
        from worker.seams import filter_sdk
        from worker.values import PlainValues

        configure_logging()
        filter_sdk()
        self._foo = foo
        self._sdk = Resonate(network=LocalConnection(group="service-foo"), group="service-foo", encryptor=PlainValues())
        for function in (foo, bar, baz):
            self._sdk.register(function)
        opened.push_async_callback(self._sdk.stop)

    async def play(self, id: str) -> None:
        began_at = time.perf_counter()
        answer = await self._sdk.run(id, self._foo).result()
        self._played.request_s.append(time.perf_counter() - began_at)
        if answer != RIGHT_ANSWER:
            raise WrongAnswers(f"answered {answer!r}")


async def _play(workload: Workload) -> Played:
    played = Played()
    kinds: dict[str, type[_Requests | _Sdk]] = {"request to foo": _Requests, "SDK alone": _Sdk}
    chain = kinds.get(workload.chain, Workers)(workload, played)
    async with AsyncExitStack() as opened:
        try:
            await chain.open(opened)
            await _play_chains(workload, played, chain.play)
        except* (WrongAnswers, OSError, EOFError) as errors:
            played.failure = str(errors.exceptions[0])
    return played


def main() -> None:
    """Read a workload from stdin, write what was measured to stdout, and discard what functions print."""
    import uvloop

    workload = msgspec.json.decode(sys.stdin.buffer.read(), type=Workload)
    if workload.core is not None:
        os.sched_setaffinity(0, {workload.core})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, redirect_stdout(StringIO()):
        played = runner.run(_play(workload))
    sys.stdout.buffer.write(msgspec.json.encode(played))


if __name__ == "__main__":
    main()
