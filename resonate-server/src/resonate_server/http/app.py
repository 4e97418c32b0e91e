"""Routes of the API port (protocol section 1.1) and of the metrics port, wired to their handlers."""

import logging
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct

from resonate_server.config import Settings
from resonate_server.delivery import Hub
from resonate_server.engine import Engine
from resonate_server.http.api import Api
from resonate_server.http.auth import Guard
from resonate_server.http.backup import Backups
from resonate_server.http.bodies import Bodies, Unfinished
from resonate_server.http.client_time import ClientTime
from resonate_server.http.connections import (
    AiohttpConnection,
    Connections,
    refuse_body_of_get,
    track_request,
)
from resonate_server.http.gate import Gate, add_origin, cors, gated
from resonate_server.http.lane import Lane, LaneFactory
from resonate_server.http.listening import MAX_NON_STREAM_CONNECTIONS, Site, allow_connections
from resonate_server.http.ready import Pulse, report
from resonate_server.http.stream import Streams
from resonate_server.http.ui import LINKABLE, add_ui
from resonate_server.metrics import Metrics
from resonate_server.protocol.envelope import encode_response
from resonate_server.protocol.errors import ProtocolError
from resonate_server.store import Store
from resonate_server.watch import Watch

logger = logging.getLogger(__name__)

GONE = "/{path:(?:promises|schedules|tasks)(?:/.*)?}"
"""Paths of the REST API of servers before 0.9."""

LANES = web.AppKey("lanes", LaneFactory)
CONNECTIONS = web.AppKey("connections", Connections)

KEEP_ALIVE_S = 75.0
"""Longer than SDKs keep idle connections (15 s), so that the server never closes one that a client is about to use."""

MAX_METRICS_CONNECTIONS = 64

MAX_LINE_BYTES = 65_536
"""Maximum size of a request line or header. The longest id has 4,096 characters of up to 4 bytes, and each byte takes 3
in a URL (``%xx``); SDKs also send ids in a header."""


class Parts(Struct, frozen=True):
    """The components that the applications are built from. ``watch``: ``None`` if the live page is disabled."""

    settings: Settings
    guard: Guard
    metrics: Metrics
    store: Store
    engine: Engine
    hub: Hub
    watch: Watch | None
    pulse: Pulse


def build_app(parts: Parts) -> web.Application:
    """Build the application of the API port. It neither starts nor stops its parts."""
    settings, guard, engine, hub = parts.settings, parts.guard, parts.engine, parts.hub
    gate = Gate(settings.server, LINKABLE)
    own = [cors(settings.server.cors.allow_origins), _contain_failures]
    app = web.Application(middlewares=[*_middlewares(gate, parts.metrics), *own])
    limit = allow_connections(settings.transports.http_poll.max_connections + MAX_NON_STREAM_CONNECTIONS)
    bodies = Bodies(settings.server.max_body_bytes, _patience(settings), guard)
    connections = _bound(app, limit, bodies.patience, bodies.unfinished)
    api = Api(engine, guard, parts.metrics, bodies, connections, settings.debug)
    app.router.add_post("/", api.post)
    if settings.transports.http_poll.enabled:
        streams = Streams(hub, guard, settings, engine.now)
        app.router.add_get("/poll/{group}/{id}", streams.get, allow_head=False)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", lambda _: report(parts.store, parts.pulse))
    app.router.add_get("/backup", Backups(parts.store, guard).get, allow_head=False)
    if parts.watch is not None:
        add_ui(app, parts.watch, guard, settings, connections, bodies)
    app.router.add_route("*", GONE, _gone)
    lanes = app[LANES] = LaneFactory(api.handle, gate.names_this_server, connections, bodies, engine.now)
    app.on_shutdown.append(lambda _: _end_streams(hub))
    app.on_shutdown.append(lambda _: connections.drain(settings.server.shutdown_timeout / 1_000))
    app.on_response_prepare.append(add_origin)
    app.on_response_prepare.append(lanes.add_date)
    return app


def build_metrics_app(metrics: Metrics, settings: Settings) -> web.Application:
    """Build the application that serves ``GET /metrics`` on its own port."""

    async def render(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(middlewares=_middlewares(Gate(settings.server), metrics))
    app.router.add_get("/metrics", render)
    connections = _bound(app, MAX_METRICS_CONNECTIONS, _patience(settings), Unfinished())
    app.on_shutdown.append(lambda _: connections.drain(settings.server.shutdown_timeout / 1_000))
    return app


def site(runner: web.AppRunner, host: str, port: int, reuse_port: bool = False) -> web.BaseSite:
    """Return a listener for an application of this module. With ``reuse_port``, other processes of the same user may
    listen on the port, too, and the system distributes connections among them."""
    server, connections, lanes = runner.server, runner.app[CONNECTIONS], runner.app.get(LANES)
    assert server is not None, "the runner was set up before"
    if lanes is None:
        return Site(runner, host, port, connections, lambda: AiohttpConnection(connections, server()), reuse_port)
    lanes.fallback = server
    return Site(runner, host, port, connections, partial(Lane, lanes), reuse_port)


def _patience(settings: Settings) -> ClientTime:
    return ClientTime(settings.server.client_timeout / 1_000)


def _bound(app: web.Application, limit: int, patience: ClientTime, unfinished: Unfinished) -> Connections:
    app[CONNECTIONS] = Connections(limit, patience, KEEP_ALIVE_S, unfinished)
    return app[CONNECTIONS]


def _middlewares(gate: Gate, metrics: Metrics) -> list[Middleware]:
    """Return the middlewares of both ports, outermost first."""
    return [track_request, gated(gate, metrics), refuse_body_of_get]


@web.middleware
async def _contain_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log an internal error and answer 500. A broken body or a refused token is the client's error: do not log it."""
    try:
        return await handler(request)
    except ProtocolError as error:
        return web.Response(status=error.status, text=f"{error.message}\n")
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


async def _gone(_: web.Request) -> web.Response:
    return web.json_response({"error": "this API is gone; send protocol envelopes to POST /"}, status=410)


async def _end_streams(hub: Hub) -> None:
    hub.close_all()
