"""The load generator for foo: a process of its own that keeps so many requests in flight and times each.

`Generator` starts it (`python -m bench.load`) and hands it one job after another, as lines of JSON.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from bench.http_channel import Channel, post_bytes

SHOWN_FAILURES = 5


class WrongAnswers(Exception):
    """Something was not answered as it should be: what was measured is worth nothing."""


class Job(Struct, frozen=True):
    """``POST {url}`` with ``body``, ``in_flight`` at a time, for ``seconds``; right answers contain ``expected``."""

    url: str
    in_flight: int
    seconds: float
    body: str = "{}"
    expected: str = '"message":3'


class Result(Struct):
    """``elapsed_s``: from the first request to the last answer. ``cpu_seconds`` are the generator's own."""

    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0
    cpu_seconds: float = 0
    failures: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answers."""
        return len(self.latencies_s) / self.elapsed_s


class Generator:
    """A load generator in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, job: Job) -> Result:
        """Raises :class:`WrongAnswers`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended, see above")
        result = msgspec.json.decode(line, type=Result)
        if result.failures:
            raise WrongAnswers(f"{job.url}: {'; '.join(result.failures[:SHOWN_FAILURES])}")
        return result


# ── in the process of its own ──


class _Caller:
    """Sends a request, and the next as soon as the answer is there."""

    def __init__(self, job: Job, result: Result, on_end: Callable[[], None]) -> None:
        address = urlsplit(job.url)
        assert address.hostname is not None
        self._request = post_bytes(address.netloc, address.path, job.body.encode())
        self._expected = job.expected.replace(" ", "").encode()
        self._result = result
        self._on_end = on_end
        self._channel = Channel(address.hostname, address.port or 80, self._on_reply)
        self._end = time.perf_counter() + job.seconds
        self._sent_at = 0.0

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._channel.send(self._request)

    def _on_reply(self, status: int, body: bytes) -> None:
        now = time.perf_counter()
        self._result.latencies_s.append(now - self._sent_at)
        if status != 200 or self._expected not in body.replace(b" ", b""):
            self._result.failures.append(f"{status} {body[:200].decode(errors='replace')}")
        if now < self._end:
            self.send()
        else:
            self._channel.close()
            self._on_end()


async def _run(job: Job) -> Result:
    asyncio.get_running_loop().set_exception_handler(give_up)
    result = Result()
    finished = asyncio.Semaphore(0)
    began, cpu_before = time.perf_counter(), time.process_time()
    callers = [_Caller(job, result, finished.release) for _ in range(job.in_flight)]
    for caller in callers:
        caller.send()
    for _ in callers:
        await finished.acquire()
    result.elapsed_s = time.perf_counter() - began
    result.cpu_seconds = time.process_time() - cpu_before
    return result


def give_up(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A callback that failed would leave its request unanswered for ever."""
    loop.default_exception_handler(context)
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """A job per line on stdin, a result per line on stdout."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            result = runner.run(_run(msgspec.json.decode(line, type=Job)))
            sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
