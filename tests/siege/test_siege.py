"""Two hundred connections misbehave in every way we know, against a whole stack that serves chains meanwhile.

Honest clients must not notice: no chain is lost or wrong, and none takes more than twice its usual time. After the
siege the processes hold no more memory and files than before. ``SEED`` repeats a run, ``SIEGES`` sets the number of
different ones.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from uuid import uuid4

import psutil
import pytest
from harness.basics import PATIENCE_SECONDS, free_port
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from msgspec import Struct
from siege.besiegers import KINDS, Place, Target, besiege, post
from ui.demo import Demo

from resonate_server.http.app import KEEP_ALIVE_S

pytestmark = pytest.mark.long

SEED = int(os.environ.get("SEED", random.randrange(2**32)))
SIEGES = int(os.environ.get("SIEGES", "1"))
BESIEGERS = 200
PAUSE_SECONDS = 10.0
"""How long bar sleeps in a chain: long compared with the hiccups of a busy machine."""
QUIET_CHAINS = 8
CALLERS = 8
SIEGE_SECONDS = 16.0
TRIES = 3
"""A slow siege may be due to other load on the machine; a fault of ours slows down every one."""
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


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("siege")) as demo:
        yield demo


@seed(SEED)
@settings(
    max_examples=SIEGES,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(seeds=st.lists(st.integers(0, 2**32), min_size=BESIEGERS, max_size=BESIEGERS))
def test_two_hundred_misbehaving_clients_do_not_affect_others(demo: Demo, seeds: list[int]) -> None:
    asyncio.run(_siege(demo, list(zip(cycle(KINDS), seeds, strict=False))))


async def _siege(demo: Demo, besiegers: list[tuple[str, int]]) -> None:
    print(f"SEED={SEED}")
    target = Target(server=demo.server.port, foo=demo.foo_port, dead=free_port())
    slowdowns: list[float] = []
    while not slowdowns or (min(slowdowns) >= 2 and len(slowdowns) < TRIES):
        slowdowns.append(await _slowdown(demo, besiegers, target))
    assert min(slowdowns) < 2, slowdowns
    assert "Traceback" not in demo.server.output() + demo.printed()


async def _slowdown(demo: Demo, besiegers: list[tuple[str, int]], target: Target) -> float:
    """Return the time of the slowest chain, divided by the usual time without a siege."""
    quiet = statistics.median(await _chains(demo, QUIET_CHAINS / CALLERS * PAUSE_SECONDS))
    before = _usage(demo)
    async with _under_siege(besiegers, target):
        took = await _chains(demo, SIEGE_SECONDS)
        at_worst = _usage(demo)
    print(
        f"{len(took)} chains, the slowest took {max(took):.2f} s; in quiet {quiet:.2f} s; memory and files: {at_worst}"
    )

    excess = await _excess_that_stays(demo, before)
    print(f"before: {before}; afterwards: {_usage(demo)}")
    assert at_worst["server"].memory < MAX_MEMORY_BYTES
    assert excess == []
    return max(took) / quiet


async def _chains(demo: Demo, seconds: float) -> list[float]:
    """Run honest callers for that long, each with one chain at a time; return each chain's seconds. All succeed."""
    end = time.monotonic() + seconds

    async def call() -> list[float]:
        took = []
        while time.monotonic() < end:
            began = time.monotonic()
            assert b'"message":3' in await _result(demo)
            took.append(time.monotonic() - began)
        return took

    return [seconds for of_one in await asyncio.gather(*(call() for _ in range(CALLERS))) for seconds in of_one]


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
async def _under_siege(besiegers: list[tuple[str, int]], target: Target) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(besiege(kind, seed, target)) for kind, seed in besiegers]
    await asyncio.sleep(1)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


async def _excess_that_stays(demo: Demo, before: dict[str, Usage]) -> list[str]:
    """Return the processes that still hold more than before, after they have had time to release it."""
    deadline = time.monotonic() + BACK_TO_NORMAL_SECONDS
    while (excess := _excess(before, _usage(demo))) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return excess


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
