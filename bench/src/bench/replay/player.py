"""Sends the requests of recorded chains to a server, from a process of its own (`python -m bench.replay.player`).

`play` starts that process and returns what it measured. It has one stream per worker of the recorded chain and many
connections for requests; a request that is due waits for a free one. Everything runs in callbacks on bytes that were
built before, so that this process costs less than the server it measures.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid
from collections import deque
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from bench.http_channel import Channel, post_bytes
from bench.load import WrongAnswers, give_up
from bench.replay.machine import Plan, Run
from bench.replay.stream import MessageStream
from bench.replay.template import CORR_ID, DEADLINE, ROOT, WORKER, Message, Template

DRAIN_SECONDS = 120.0
"""After the last chain was begun: those that have not ended by then are counted as unfinished."""
TICK_SECONDS = 0.005
SHOWN_FAILURES = 5
REFUSED = 503
_ROOT = ROOT.encode()
_CORR_ID = CORR_ID.encode()


class Play(Struct, frozen=True):
    """Begin chains for ``seconds``: a new one whenever fewer than ``in_flight`` go on, or so many ``per_second``."""

    url: str
    template: Template
    connections: int
    seconds: float
    seed: int
    in_flight: int = 0
    per_second: float = 0
    core: int | None = None
    """The only core that the player may use."""


class Played(Struct):
    """Times in seconds. ``starts``: when each chain's first request was sent, and answered."""

    request_s: list[float] = field(default_factory=list)
    chain_s: list[float] = field(default_factory=list)
    starts: list[tuple[float, float]] = field(default_factory=list)
    begun: int = 0
    refused: int = 0
    unfinished: int = 0
    elapsed_s: float = 0
    cpu_seconds: float = 0
    failures: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.request_s)

    @property
    def chains(self) -> int:
        return len(self.chain_s)

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.elapsed_s


def play(job: Play) -> Played:
    """Raises `bench.load.WrongAnswers` if an answer was not the recorded one."""
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=msgspec.json.encode(job), stdout=subprocess.PIPE, check=True
    )
    played = msgspec.json.decode(done.stdout, type=Played)
    if played.failures:
        raise WrongAnswers("; ".join(played.failures[:SHOWN_FAILURES]))
    return played


# ── in the process of its own ──


class _Lane:
    """A connection, and the request that is under way on it."""

    def __init__(self, player: "_Player", host: str, port: int) -> None:
        self._player = player
        self._channel = Channel(host, port, self._on_reply)
        self.run: Run | None = None
        self.step = 0
        self.corr_id = b""
        self.sent_at = 0.0

    def send(self, run: Run, step: int, request: bytes, corr_id: bytes) -> None:
        self.run, self.step, self.corr_id = run, step, corr_id
        self.sent_at = time.perf_counter()
        self._channel.send(request.replace(_ROOT, run.id.encode()).replace(_CORR_ID, corr_id))

    async def connect(self) -> None:
        await self._channel.connect()

    def close(self) -> None:
        self._channel.close()

    def _on_reply(self, status: int, body: bytes) -> None:
        self._player.answered(self, status, body)


class _Player:
    def __init__(self, job: Play) -> None:
        self._job = job
        self._plan = Plan.of(job.template)
        self._chance = random.Random(job.seed)
        self._pids = {group: uuid.UUID(int=self._chance.getrandbits(128)).hex for group in job.template.workers}
        address = urlsplit(job.url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._requests = [post_bytes(address.netloc, "/", body) for body in _bodies(job.template, self._pids)]
        self._lanes = deque(_Lane(self, self._host, self._port) for _ in range(job.connections))
        self._due: deque[tuple[Run, int]] = deque()
        self._runs: dict[str, tuple[Run, float]] = {}
        self._sent = 0
        self._over = asyncio.Event()
        self._began = 0.0
        self.played = Played()

    async def run(self) -> Played:
        streams = [await self._stream(group, pid) for group, pid in self._pids.items()]
        for lane in self._lanes:
            await lane.connect()
        self._began, cpu_before = time.perf_counter(), time.process_time()
        await (self._keep_pace() if self._job.per_second else self._keep_in_flight())
        try:
            await asyncio.wait_for(self._over.wait(), DRAIN_SECONDS)
        except TimeoutError:
            self.played.unfinished = len(self._runs)
        self.played.elapsed_s = time.perf_counter() - self._began
        self.played.cpu_seconds = time.process_time() - cpu_before
        for stream in streams:
            stream.close()
        for lane in self._lanes:
            lane.close()
        return self.played

    async def _stream(self, group: str, pid: str) -> MessageStream:
        loop = asyncio.get_running_loop()
        stream = MessageStream(self._host, f"/poll/{group}/{pid}", self._on_message)
        await loop.create_connection(lambda: stream, self._host, self._port)
        await stream.is_established
        return stream

    # ── beginning chains ──

    async def _keep_in_flight(self) -> None:
        for _ in range(self._job.in_flight):
            self._begin()
        await asyncio.sleep(self._job.seconds)

    async def _keep_pace(self) -> None:
        while (elapsed := time.perf_counter() - self._began) < self._job.seconds:
            while self.played.begun < elapsed * self._job.per_second:
                self._begin()
            await asyncio.sleep(TICK_SECONDS)

    @property
    def _is_time_over(self) -> bool:
        return time.perf_counter() - self._began >= self._job.seconds

    def _begin(self) -> None:
        run = Run(f"foo-{self._chance.getrandbits(64):016x}", self._plan)
        self._runs[run.id] = run, time.perf_counter()
        self.played.begun += 1
        self._send(run, run.begin())

    def _end(self, run: Run) -> None:
        began_at = self._runs.pop(run.id)[1]
        self.played.chain_s.append(time.perf_counter() - began_at)
        self._one_less()

    def _one_less(self) -> None:
        if not self._is_time_over:
            if self._job.in_flight:
                self._begin()
        elif not self._runs:
            self._over.set()

    # ── requests, answers, messages ──

    def _send(self, run: Run, steps: list[int]) -> None:
        self._due.extend((run, step) for step in steps)
        while self._due and self._lanes:
            due, step = self._due.popleft()
            self._sent += 1
            self._lanes.popleft().send(due, step, self._requests[step], b"sr-%032x" % self._sent)

    def answered(self, lane: _Lane, status: int, body: bytes) -> None:
        """A lane's request is answered; the lane is free."""
        now = time.perf_counter()
        self._lanes.append(lane)
        assert lane.run is not None
        run = lane.run
        if lane.step == 0:
            self.played.starts.append((lane.sent_at - self._began, now - self._began))
        if status == REFUSED and lane.step == 0:
            self.played.refused += 1
            del self._runs[run.id]
            self._one_less()
            return
        self.played.request_s.append(now - lane.sent_at)
        if status != 200 or lane.corr_id not in body:
            self.played.failures.append(f"{self._job.template.steps[lane.step].body['kind']}: {status} {body[:300]!r}")
            self._over.set()
        self._send(run, run.answered(lane.step))
        if run.is_over:
            self._end(run)

    def _on_message(self, text: bytes) -> None:
        pushed = msgspec.json.decode(text, type=_Pushed)
        id, version = pushed.subject
        if id[: len(ROOT)] in self._runs:
            run = self._runs[id[: len(ROOT)]][0]
            self._send(run, run.heard(Message(id[len(ROOT) :], version)))
            if run.is_over:
                self._end(run)


class _Named(Struct):
    id: str
    version: int | None = None


class _PushedData(Struct):
    task: _Named | None = None
    promise: _Named | None = None


class _Pushed(Struct):
    data: _PushedData

    @property
    def subject(self) -> tuple[str, int | None]:
        """The id of the task or promise, and the task's version."""
        named = self.data.task or self.data.promise
        assert named is not None
        return named.id, named.version


def _bodies(template: Template, pids: dict[str, str]) -> list[bytes]:
    """All but the ids filled in."""
    now_ms = int(time.time() * 1_000)
    texts = [msgspec.json.encode(step.body).decode() for step in template.steps]
    texts = [WORKER.sub(lambda found: pids[found[1]], text) for text in texts]
    return [DEADLINE.sub(lambda found: str(now_ms + int(found[1])), text).encode() for text in texts]


def main() -> None:
    """A job on stdin, what was measured on stdout."""
    import uvloop

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Play)
    if job.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})

    async def run() -> Played:
        asyncio.get_running_loop().set_exception_handler(give_up)
        return await _Player(job).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(msgspec.json.encode(runner.run(run())))


if __name__ == "__main__":
    main()
