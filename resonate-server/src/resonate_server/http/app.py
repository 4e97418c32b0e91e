"""Routes of the API port (protocol section 1.1), and the parts that answer them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec.structs import replace

from resonate_server.config import Settings
from resonate_server.delivery import UNBLOCK_KEPT_S, Hub, Push
from resonate_server.engine import Engine
from resonate_server.http.api import Api
from resonate_server.http.auth import Guard
from resonate_server.http.backup import Backups
from resonate_server.http.budget import budget
from resonate_server.http.connections import (
    MAX_BESIDE_STREAMS,
    Connections,
    Guest,
    Site,
    allow_connections,
    refuse_body_of_get,
    tell_connection,
)
from resonate_server.http.cors import add_origin, cors
from resonate_server.http.gate import Gate, gated
from resonate_server.http.intake import Intake
from resonate_server.http.lane import Lanes
from resonate_server.http.ready import Pulse, report
from resonate_server.http.stream import Streams
from resonate_server.http.ui import LINKABLE, add_ui
from resonate_server.metrics import MachineFigures, Metrics, OperationCollector
from resonate_server.protocol.envelope import encode_response
from resonate_server.protocol.messages import Execute, Message
from resonate_server.watch.survey import Survey

logger = logging.getLogger(__name__)

HOUSEKEEPING_S = 60

GONE = ("promises", "schedules", "tasks")
"""Paths of the REST API of servers before 0.9."""


LANES = web.AppKey("lanes", Lanes)
CONNECTIONS = web.AppKey("connections", Connections)

KEEP_ALIVE_S = 75.0
"""Idle connections are kept longer than the SDKs keep theirs (15 s), so that the server never closes one in use."""

MAX_METRICS_CONNECTIONS = 64

MAX_LINE_BYTES = 65_536
"""Of a request line or header. The longest id has 4,096 characters of up to 4 bytes, each written as ``%xx`` in a URL;
SDKs send it as a header as well."""


def build_app(engine: Engine, settings: Settings, guard: Guard, metrics: Metrics) -> web.Application:
    """The application; the engine and its delivery start and stop with it."""
    push = Push(
        settings.transports.http_push,
        settings.server.public_url,
        metrics,
        lambda unblock: engine.delivered(unblock.key),
    )
    hub = Hub(owner=engine, push=push.send)
    survey, pulse = Survey(engine, hub.workers, engine.now), Pulse()
    metrics.registry.register(OperationCollector(survey.groups, lambda: _machine(engine, pulse)))
    outbound = Outbound(hub, push, metrics)
    gate = Gate(settings.server, LINKABLE)
    app = web.Application(middlewares=[*_middlewares(gate, metrics), *_own_middlewares(settings)])
    limit = allow_connections(settings.transports.http_poll.max_connections + MAX_BESIDE_STREAMS)
    connections = _bound(app, settings, limit)
    bytes_held = budget(settings.server.max_body_bytes)
    intake = Intake(settings.server.max_body_bytes, connections.patience_s, bytes_held, guard)
    api = Api(engine, guard, metrics, intake, connections, settings.debug)
    app.router.add_post("/", api.post)
    if settings.transports.http_poll.enabled:
        app.router.add_get("/poll/{group}/{id}", Streams(hub, guard, settings, engine.now).get, allow_head=False)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", lambda _: report(engine, pulse))
    app.router.add_get("/backup", Backups(engine, guard).get, allow_head=False)
    if settings.ui.enabled:
        add_ui(app, engine, hub, guard, settings)
    for name in GONE:
        app.router.add_route("*", f"/{name}", _gone)
        app.router.add_route("*", f"/{name}/{{rest:.*}}", _gone)
    app.cleanup_ctx.append(lambda _: _running(engine, hub, push, outbound, survey.run, pulse.beat))
    app[LANES] = Lanes(api.handle, gate.goes_by, connections, bytes_held)
    app.on_shutdown.append(lambda _: _end_streams(hub))
    app.on_shutdown.append(lambda _: connections.drain(settings.server.shutdown_timeout / 1_000))
    app.on_response_prepare.append(add_origin)
    return app


def build_metrics_app(metrics: Metrics, settings: Settings) -> web.Application:
    """``GET /metrics``, for a listener of its own."""

    async def render(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(middlewares=_middlewares(Gate(settings.server), metrics))
    app.router.add_get("/metrics", render)
    connections = _bound(app, settings, MAX_METRICS_CONNECTIONS)
    app.on_shutdown.append(lambda _: connections.drain(settings.server.shutdown_timeout / 1_000))
    return app


def site(runner: web.AppRunner, host: str, port: int) -> web.BaseSite:
    """Where an application of this module listens."""
    server, connections, lanes = runner.server, runner.app[CONNECTIONS], runner.app.get(LANES)
    assert server is not None, "the runner was set up before"
    if lanes is None:
        return Site(runner, host, port, lambda: Guest(connections, server()))
    lanes.fallback = server
    return Site(runner, host, port, lanes.connect)


def _bound(app: web.Application, settings: Settings, limit: int) -> Connections:
    app[CONNECTIONS] = Connections(limit, settings.server.client_timeout / 1_000, KEEP_ALIVE_S)
    return app[CONNECTIONS]


class Outbound:
    """Where the engine's messages go: connected workers and HTTP addresses.

    See :class:`resonate_server.engine.Outbound`.
    """

    def __init__(self, hub: Hub, push: Push, metrics: Metrics) -> None:
        self._push = push
        self._hub = hub
        self._metrics = metrics
        self.refill = hub.refill
        self.refresh = hub.refresh
        self.silent = hub.silent
        self.heard = hub.heard
        self.give = hub.give
        self.is_at_work = hub.is_at_work
        self.reset = hub.reset

    def send(self, message: Message) -> None:
        self._metrics.message("execute" if isinstance(message, Execute) else "unblock")
        self._hub.send(message)

    def withdraw(self, task_id: str) -> None:
        self._hub.withdraw(task_id)
        self._push.withdraw(task_id)


def _middlewares(gate: Gate, metrics: Metrics) -> list[Middleware]:
    """Of both ports, the outermost one first."""
    return [tell_connection, gated(gate, metrics), refuse_body_of_get]


def _own_middlewares(settings: Settings) -> list[Middleware]:
    origins = settings.server.cors.origins
    return [*([cors(origins)] if origins else []), _contain_failures]


@web.middleware
async def _contain_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A mistake of ours is logged once and answered; a broken request body is the client's."""
    try:
        return await handler(request)
    except web.RequestPayloadError as error:
        return web.Response(status=400, text=f"the request body could not be read: {error}\n")
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        body = encode_response("unknown", "0", 500, "internal error")
        return web.Response(status=500, body=body, content_type="application/json")


async def _health(_: web.Request) -> web.Response:
    return web.Response()


def _machine(engine: Engine, pulse: Pulse) -> MachineFigures:
    figures = MachineFigures(engine.now() - time.time_ns() // 1_000_000, pulse.lag_s)
    try:
        use = engine.disk_use()
    except OSError:
        return figures
    return figures if use is None else replace(figures, file_bytes=use.file, log_bytes=use.log, free_bytes=use.free)


async def _gone(_: web.Request) -> web.Response:
    return web.json_response({"error": "this API is gone; send protocol envelopes to POST /"}, status=410)


async def _running(
    engine: Engine, hub: Hub, push: Push, outbound: Outbound, *by_the_clock: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    await push.start()
    engine.start(outbound)
    tasks = [asyncio.ensure_future(each()) for each in (lambda: _keep_house(engine, hub), *by_the_clock)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    hub.stop()
    await push.stop()
    await engine.stop()


async def _keep_house(engine: Engine, hub: Hub) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        hub.keep_house()
        engine.forget_stale_unblocks(UNBLOCK_KEPT_S)
        await engine.drop_settled_trees()


async def _end_streams(hub: Hub) -> None:
    hub.close_all()
