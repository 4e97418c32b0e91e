"""The composition root: makes every part of the server once, and connects them."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from aiohttp import web
from msgspec import Struct

from resonate_server.config import Settings, WrongSetting
from resonate_server.delivery import CHECK_INTERVAL_MS, UNBLOCK_KEPT_S, Hub, Presence, Push
from resonate_server.delivery.presence import Member
from resonate_server.engine import Engine
from resonate_server.http import Parts, build_app, build_metrics_app
from resonate_server.http.auth import Guard
from resonate_server.http.ready import MachineCollector, Pulse
from resonate_server.kernel.model import Rules
from resonate_server.metrics import Metrics
from resonate_server.peers import Peers
from resonate_server.store import Store
from resonate_server.store.errors import ReadFailed
from resonate_server.store.sqlite import IN_MEMORY, Database, SQLiteStore, StoreUnusable
from resonate_server.trace import Trace
from resonate_server.watch import Watch
from resonate_server.watch.survey import Survey

logger = logging.getLogger(__name__)

HOUSEKEEPING_S = 60
DUTY_PAUSE_S = 5
EXPORTER = "opentelemetry-exporter-otlp-proto-http"
COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Server(Struct, frozen=True):
    """All parts, made but not started: they start and stop with ``app``. ``parts`` is what its routes work with."""

    parts: Parts
    push: Push
    presence: Presence
    peers: Peers | None
    survey: Survey
    app: web.Application
    metrics_app: web.Application


def build(settings: Settings) -> Server:
    """Raises ``WrongSetting`` for an unusable setting, ``StoreUnusable`` or ``TraceUnusable`` for a file."""
    guard, metrics, pulse = Guard(settings.auth), Metrics(), Pulse()
    trace = Trace(Path(settings.trace)) if settings.trace else None
    store = _store(settings)
    engine = _engine(store, settings, metrics)
    engine.trace = trace
    push = Push(
        settings.transports.http_push,
        settings.server.public_url,
        metrics,
        lambda unblock: engine.delivered(unblock.key),
    )
    presence = Presence(
        settings.tasks.worker_grace / 1_000,
        engine.now,
        lambda group, pid: (peers or engine).worker_gone(group, pid),
        lambda _: metrics.workers_misjudged.inc(),
    )
    hub = Hub(engine, push, presence, metrics)
    peers = None if store.sharing is None else Peers(store.sharing, engine, hub, presence)
    everybody = peers.members if peers else presence.members
    watch = _watch(engine, presence, everybody, settings) if settings.ui.enabled else None
    if peers:
        peers.begin(watch)
    _trace_lost_attempts(engine)
    survey = Survey(engine, peers.workers if peers else hub.workers, engine.now)
    metrics.registry.register(survey)
    metrics.registry.register(MachineCollector(store, pulse))
    parts = Parts(settings, guard, metrics, store, engine, hub, watch, pulse)
    server = Server(parts, push, presence, peers, survey, build_app(parts), build_metrics_app(metrics, settings))
    server.app.cleanup_ctx.append(lambda _: _running(server))
    return server


def _store(settings: Settings) -> Store:
    sqlite, postgres = settings.storage.sqlite, settings.storage.postgres
    if settings.storage.is_postgres:
        return _postgres_store(postgres.url, 1 if settings.trace else postgres.pool_size)
    return SQLiteStore(Database(sqlite.path, sqlite.synchronous))


def _postgres_store(url: str, pool_size: int) -> Store:
    """The driver is an optional extra. With a trace, one connection does everything, in order."""
    try:
        from resonate_server.store.postgres import PostgresStore, check_url
    except ImportError as error:
        raise StoreUnusable(f"PostgreSQL needs the extra `postgres` of this package: {error}") from error
    try:
        check_url(url)
    except ValueError as error:
        raise WrongSetting("storage.postgres.url", str(error)) from None
    return PostgresStore(url, pool_size)


def _engine(store: Store, settings: Settings, metrics: Metrics) -> Engine:
    rules = Rules(retry_timeout_ms=settings.tasks.retry_timeout, catch_up_runs=settings.schedules.catch_up)
    return Engine(store, rules, metrics, settings.server.public_url, settings.retention.settled_after)


def _watch(engine: Engine, presence: Presence, members: Callable[[], list[Member]], settings: Settings) -> Watch:
    path = settings.storage.sqlite.path
    has_file = not settings.storage.is_postgres and path != IN_MEMORY
    alive = path.with_name(f"{path.name}-alive") if has_file else None
    watch = Watch(engine, members, engine.now, alive)
    presence.observer = watch
    engine.observers.append(watch)
    return watch


def _trace_lost_attempts(engine: Engine) -> None:
    """Trace lost attempts if OpenTelemetry's variables name a collector. The exporter is an optional extra."""
    given = [name for name in COLLECTORS if os.environ.get(name)]
    if not given:
        return
    from importlib.metadata import distributions  # only here: slow to load and seldom needed

    if not any(distributions(name=EXPORTER)):
        raise SystemExit(f"resonate-server: {given[0]} asks for traces, which need the extra `otel`")
    if not os.environ[given[0]].startswith(("http://", "https://")):
        raise SystemExit(f"resonate-server: {given[0]} must be a URL, such as http://localhost:4318")
    from resonate_server.watch.lost_attempts import LostAttempts

    engine.observers.append(LostAttempts(engine))


async def _running(server: Server) -> AsyncIterator[None]:
    parts = server.parts
    await server.push.start()
    parts.engine.start(server.peers.router if server.peers else parts.hub)
    duties: list[Callable[[], Awaitable[None]]] = [server.survey.run, parts.pulse.beat]
    duties += [partial(_keep_house, server), partial(_look_round, server.presence)]
    duties += [parts.watch.outages.run] if parts.watch else []
    duties += [server.peers.run, server.peers.count] if server.peers else []
    tasks = [asyncio.ensure_future(_forever(each)) for each in duties]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    parts.hub.stop()
    server.presence.close()
    await server.push.stop()
    await parts.engine.stop()
    for observer in parts.engine.observers:
        observer.close()
    if parts.engine.trace is not None:
        parts.engine.trace.close()


async def _forever(duty: Callable[[], Awaitable[None]]) -> None:
    """Begin a duty again if it fails: nobody awaits it, and a server that neglects it still looks healthy."""
    while True:
        try:
            await duty()
        except Exception:
            logger.exception("a background duty has failed; it begins again in %d s", DUTY_PAUSE_S)
            await asyncio.sleep(DUTY_PAUSE_S)


async def _look_round(presence: Presence) -> None:
    while True:
        await asyncio.sleep(CHECK_INTERVAL_MS / 1_000)
        presence.check_pledges()


async def _keep_house(server: Server) -> None:
    engine = server.parts.engine
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        server.presence.forget_departed()
        engine.forget_stale_unblocks(UNBLOCK_KEPT_S)
        with suppress(ReadFailed):  # The next round retries.
            await engine.drop_settled_trees()
