"""Two hundred connections misbehave in every way we know, against a whole stack that serves chains meanwhile.

Honest clients get their answers: no chain is lost or wrong. After the siege the processes hold no more memory and files
than before. ``SEED`` repeats a run.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from harness.basics import PATIENCE_SECONDS, free_port, wait_until
from msgspec import Struct
from siege.besiegers import KINDS, Place, Target, besiege, post

from resonate_server.http.app import KEEP_ALIVE_S
from ui.demo import Demo

pytestmark = pytest.mark.long

SEED = int(os.environ.get("SEED", random.randrange(2**32)))
BESIEGERS = 200
PAUSE_SECONDS = 10.0
"""How long bar sleeps in a chain: long, so that honest callers do not add to the load."""
CALLERS = 8
SIEGE_SECONDS = 16.0
MAX_MEMORY_BYTES = 200 * 2**20
MAX_GROWTH_BYTES = 32 * 2**20
MAX_NEW_FILES = 16
"""For the connection pools between the processes."""
BACK_TO_NORMAL_SECONDS = KEEP_ALIVE_S + 60.0
"""On a busy machine the pools open more connections; the server closes those that are idle."""


class Usage(Struct, frozen=True):
    """What one process holds: ``memory`` in bytes, and the number of open ``files``."""

    memory: int
    files: int


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    with Demo(tmp_path) as demo:
        yield demo


def test_two_hundred_misbehaving_clients_do_not_affect_others(demo: Demo) -> None:
    print(f"SEED={SEED}")
    before, at_worst = asyncio.run(_siege(demo))
    print(f"before: {before}; at worst: {at_worst}")

    assert at_worst["server"].memory < MAX_MEMORY_BYTES
    wait_until(lambda: not _excess(before, _usage(demo)), "all is released", BACK_TO_NORMAL_SECONDS, every=0.5)
    assert "Traceback" not in demo.server.output() + demo.printed()


async def _siege(demo: Demo) -> tuple[dict[str, Usage], dict[str, Usage]]:
    """Return what the processes held before and under siege."""
    target = Target(server=demo.server.port, foo=demo.foo_port, dead=free_port())
    await _chains(demo, 0)
    before = _usage(demo)
    async with _under_siege(target):
        await _chains(demo, SIEGE_SECONDS)
        return before, _usage(demo)


async def _chains(demo: Demo, seconds: float) -> None:
    """Run honest callers for that long, each with one chain at a time. All succeed."""
    end = time.monotonic() + seconds

    async def call() -> None:
        while True:
            assert b'"message":3' in await _result(demo)
            if time.monotonic() >= end:
                return

    await asyncio.gather(*(call() for _ in range(CALLERS)))


async def _result(demo: Demo) -> bytes:
    """Like any client, repeat a request that was refused for the moment, with the same key."""
    id = uuid4().hex
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (answer := await _answer_of_foo(demo, id)).startswith(b"HTTP/1.1 503 "):
            await asyncio.sleep(0.3)
    return answer


async def _answer_of_foo(demo: Demo, id: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", demo.foo_port)
    body = f'{{"pause": {PAUSE_SECONDS}}}'.encode()
    fields = {"Content_Type": "application/json", "Idempotency_Key": id, "Connection": "close"}
    writer.write(post(body, Place(demo.foo_port, "/foo"), **fields))
    try:
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def _under_siege(target: Target) -> AsyncIterator[None]:
    rng = random.Random(SEED)
    kinds = islice(cycle(KINDS), BESIEGERS)
    tasks = [asyncio.create_task(besiege(kind, rng.getrandbits(32), target)) for kind in kinds]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


def _usage(demo: Demo) -> dict[str, Usage]:
    processes = {"server": demo.server, **demo.programs}
    return {name: _usage_of(psutil.Process(process.pid)) for name, process in processes.items()}


def _usage_of(process: psutil.Process) -> Usage:
    """Return the usage of the process and its children, because foo serves in a child."""
    family = [process, *process.children(recursive=True)]
    return Usage(sum(each.memory_info().rss for each in family), sum(each.num_fds() for each in family))


def _excess(before: dict[str, Usage], now: dict[str, Usage]) -> list[str]:
    return [
        f"{name}: {before[name]}, now {usage}"
        for name, usage in now.items()
        if usage.files > before[name].files + MAX_NEW_FILES or usage.memory > before[name].memory + MAX_GROWTH_BYTES
    ]
