"""Routes of the API port (protocol section 1.1), and the parts that answer them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web
from aiohttp.typedefs import Handler

from resonate_server.config import Settings
from resonate_server.delivery import UNBLOCK_KEPT_S, Hub
from resonate_server.engine import Engine
from resonate_server.http.api import Api
from resonate_server.http.stream import Streams

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 2.0
"""A store that takes longer to answer is not ready."""

HOUSEKEEPING_S = 60


def build_app(engine: Engine, settings: Settings) -> web.Application:
    """The application; the engine starts and stops with it."""
    hub = Hub(engine)
    api, streams = Api(engine), Streams(hub, settings)
    app = web.Application(client_max_size=settings.server.max_body_bytes, middlewares=[_contain_failures])
    app.router.add_post("/", api.post)
    app.router.add_get("/poll/{group}/{id}", streams.get)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", lambda _: _ready(engine))
    app.cleanup_ctx.append(lambda _: _running(engine, hub))
    app.on_shutdown.append(lambda _: _end_streams(hub))
    return app


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
        return web.Response(status=500, text="internal error\n")


async def _health(_: web.Request) -> web.Response:
    return web.Response()


async def _ready(engine: Engine) -> web.Response:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            ready = await engine.is_ready()
    except TimeoutError:
        ready = False
    return web.Response(status=200 if ready else 503)


async def _running(engine: Engine, hub: Hub) -> AsyncIterator[None]:
    engine.start(hub)
    housekeeping = asyncio.create_task(_keep_house(engine, hub))
    yield
    housekeeping.cancel()
    with suppress(asyncio.CancelledError):
        await housekeeping
    await engine.stop()


async def _keep_house(engine: Engine, hub: Hub) -> None:
    while True:
        await asyncio.sleep(HOUSEKEEPING_S)
        hub.forget_stale_unblocks()
        engine.forget_stale_unblocks(UNBLOCK_KEPT_S)


async def _end_streams(hub: Hub) -> None:
    hub.close_all()
