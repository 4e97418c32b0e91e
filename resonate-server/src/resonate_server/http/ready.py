"""``GET /ready``: reports whether this server can do its work now, and if not, why."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable

import msgspec
from aiohttp import web
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from resonate_server.store import Store

TIMEOUT_S = 2.0
"""The server is not ready if the store, a commit or the event loop takes longer than this."""

LATELY_S = 5.0
"""Nor is it if the latest attempt to store something was made within this time, and failed."""

MIN_FREE_BYTES = 1_024 * 1_024
"""Free disk space that a commit and its log need at least."""

BEAT_S = 0.5
REMEMBERED_BEATS = 10

OK = "ok"


class Pulse:
    """Measures the recent lag of the event loop."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque([0.0], maxlen=REMEMBERED_BEATS)

    @property
    def lag_s(self) -> float:
        """The maximum of the last seconds."""
        return max(self._lags)

    async def beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self._lags.append(max(loop.time() - due, 0.0))


class Checks(msgspec.Struct, frozen=True):
    """Each is ``ok`` or says, for people, what is wrong."""

    store: str
    disk: str
    commit: str
    loop: str


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """The body of the answer. ``None`` where there is nothing to measure."""

    ready: bool
    checks: Checks
    free_disk_bytes: int | None
    last_commit_seconds: float | None
    """Seconds since the last attempt to commit began, successful or not."""
    loop_lag_seconds: float
    clock_offset_seconds: float
    """How far the server's time is ahead of the machine's clock."""


async def report(store: Store, pulse: Pulse) -> web.Response:
    """Answer 200 if every check is ok, else 503."""
    disk, free = _disk(store)
    state = await _state(store)
    checks = Checks(state, disk, _commit(store, state), _loop(pulse))
    commit = store.last_commit
    body = Readiness(
        ready=set(msgspec.structs.astuple(checks)) == {OK},
        checks=checks,
        free_disk_bytes=free,
        last_commit_seconds=None if commit is None else round(commit.seconds, 3),
        loop_lag_seconds=round(pulse.lag_s, 3),
        clock_offset_seconds=round(store.now() / 1_000 - time.time(), 3),
    )
    return web.Response(
        status=200 if body.ready else 503, body=msgspec.json.encode(body) + b"\n", content_type="application/json"
    )


class MachineCollector(Collector):
    """Metrics of the machine, read on each scrape. A server in memory has no sizes."""

    def __init__(self, store: Store, pulse: Pulse) -> None:
        self._store = store
        self._pulse = pulse

    def collect(self) -> Iterable[GaugeMetricFamily]:
        ahead_s = self._store.now() / 1_000 - time.time()
        yield GaugeMetricFamily("resonate_clock_offset_seconds", "Server's time minus the machine's.", ahead_s)
        yield GaugeMetricFamily(
            "resonate_event_loop_lag_seconds", "Latest turn of the last seconds.", self._pulse.lag_s
        )
        try:
            use = self._store.disk_use()
        except OSError:
            return
        if use is not None:
            yield GaugeMetricFamily("resonate_database_bytes", "Size of the database file.", use.file)
            yield GaugeMetricFamily("resonate_database_log_bytes", "Size of its write-ahead log.", use.log)
            yield GaugeMetricFamily("resonate_disk_free_bytes", "Free space on the disk of the database.", use.free)


async def _state(store: Store) -> str:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await store.trouble() or OK
    except TimeoutError:
        return f"it has not answered for {TIMEOUT_S:.0f} s"


def _disk(store: Store) -> tuple[str, int | None]:
    try:
        use = store.disk_use()
    except OSError as error:
        return f"the file cannot be found: {error.strerror or error}", None
    if use is None:
        return OK, None
    return (OK if use.free >= MIN_FREE_BYTES else f"{use.free} bytes are free"), use.free


def _commit(store: Store, state: str) -> str:
    """A store that answers queries may still have no room for anything."""
    commit = store.last_commit
    if commit is not None and commit.is_under_way and commit.seconds > TIMEOUT_S:
        return f"under way for {commit.seconds:.1f} s"
    if commit is not None and commit.trouble and commit.seconds < LATELY_S and state == OK:
        return f"it failed {commit.seconds:.1f} s ago: {commit.trouble}"
    return OK


def _loop(pulse: Pulse) -> str:
    return OK if pulse.lag_s <= TIMEOUT_S else f"it stalled for {pulse.lag_s:.1f} s"
