"""Routes of the API port (protocol section 1.1), and the parts that answer them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from resonate_server.config import Settings
from resonate_server.delivery import UNBLOCK_KEPT_S, Hub, Push
from resonate_server.engine import Engine
from resonate_server.http.api import Api
from resonate_server.http.auth import Guard
from resonate_server.http.cors import add_origin, cors
from resonate_server.http.lane import Lanes, LaneSite
from resonate_server.http.stream import Streams
from resonate_server.http.ui import add_ui
from resonate_server.metrics import DeliveryCollector, Metrics
from resonate_server.protocol.envelope import encode_response
from resonate_server.protocol.messages import Execute, Message

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 2.0
"""A store that takes longer to answer is not ready."""

HOUSEKEEPING_S = 60

GONE = ("promises", "schedules", "tasks")
"""Paths of the REST API of servers before 0.9."""


LANES = web.AppKey("lanes", Lanes)

KEEP_ALIVE_S = 75.0
"""Idle connections are kept longer than the SDKs keep theirs (15 s), so that the server never closes one in use."""

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
    metrics.registry.register(DeliveryCollector(hub.figures))
    outbound = Outbound(hub, push, metrics)
    app = web.Application(client_max_size=settings.server.max_body_bytes, middlewares=_middlewares(settings))
    api = Api(engine, guard, metrics, settings.debug)
    app.router.add_post("/", api.post)
    if settings.transports.http_poll.enabled:
        app.router.add_get("/poll/{group}/{id}", Streams(hub, guard, settings).get, allow_head=False)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", lambda _: _ready(engine))
    if settings.ui.enabled:
        add_ui(app, engine, hub, guard, settings)
    for name in GONE:
        app.router.add_route("*", f"/{name}", _gone)
        app.router.add_route("*", f"/{name}/{{rest:.*}}", _gone)
    app.cleanup_ctx.append(lambda _: _running(engine, hub, push, outbound))
    app[LANES] = lanes = Lanes(api.handle, KEEP_ALIVE_S, settings.server.shutdown_timeout / 1_000)
    app.on_shutdown.append(lambda _: _end_streams(hub))
    app.on_shutdown.append(lambda _: lanes.drain())
    app.on_response_prepare.append(add_origin)
    return app


def build_metrics_app(metrics: Metrics) -> web.Application:
    """``GET /metrics``, for a listener of its own."""

    async def render(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application()
    app.router.add_get("/metrics", render)
    return app


def api_site(runner: web.AppRunner, host: str, port: int) -> web.BaseSite:
    """Where the application of :func:`build_app` listens."""
    return LaneSite(runner, runner.app[LANES], host, port)


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


def _middlewares(settings: Settings) -> list[Middleware]:
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


async def _ready(engine: Engine) -> web.Response:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            ready = await engine.is_ready()
    except TimeoutError:
        ready = False
    return web.Response(status=200 if ready else 503)


async def _gone(_: web.Request) -> web.Response:
    return web.json_response({"error": "this API is gone; send protocol envelopes to POST /"}, status=410)


async def _running(engine: Engine, hub: Hub, push: Push, outbound: Outbound) -> AsyncIterator[None]:
    await push.start()
    engine.start(outbound)
    housekeeping = asyncio.create_task(_keep_house(engine, hub))
    yield
    housekeeping.cancel()
    with suppress(asyncio.CancelledError):
        await housekeeping
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
