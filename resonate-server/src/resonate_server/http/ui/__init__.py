"""The live page at ``/ui/``: its files, the API it uses, and access control.

Contract: the contents of promises are untrusted. So answers are JSON and never markup, the headers forbid the page
everything it does not need, and ids are passed as query parameters.
"""

import asyncio

from aiohttp import web

from resonate_server.config import Settings
from resonate_server.http.auth import Access, Guard
from resonate_server.http.bodies import Bodies
from resonate_server.http.connections import Connections
from resonate_server.http.ui.access import add_headers, json, protected, tell_problems
from resonate_server.http.ui.actions import Actions
from resonate_server.http.ui.files import Files
from resonate_server.http.ui.live import Live
from resonate_server.protocol.errors import Forbidden, Malformed, NotFound
from resonate_server.protocol.records import PromiseState
from resonate_server.watch import Watch
from resonate_server.watch.chain_reader import BadCursor, ChainQuery, ChainReader, decode_place

PAGE = "/ui/"

LINKABLE = ("/", "/ui", PAGE, f"{PAGE}index.html")
"""Paths of the page and of the redirects to it. Other sites may link to them."""


def add_ui(
    app: web.Application, watch: Watch, guard: Guard, settings: Settings, connections: Connections, bodies: Bodies
) -> None:
    """Serve the page, which shows the data of ``watch``."""
    app.router.add_get("/", _to_page)
    app.router.add_get("/ui", _to_page)
    ui = web.Application(middlewares=[tell_problems])
    chains, actions = ChainRoutes(watch.chains, connections), Actions(settings.ui.actions_url, bodies)
    live = Live(watch, settings.auth.enabled)
    ui.router.add_get("/api/events", protected(guard, live.get), allow_head=False)
    ui.router.add_get("/api/chains", protected(guard, chains.list))
    ui.router.add_get("/api/chain", protected(guard, chains.get))
    ui.router.add_get("/api/actions", protected(guard, actions.get))
    ui.router.add_post("/api/actions/{name:[A-Za-z0-9_-]+}", protected(guard, actions.post))
    ui.router.add_get("/{name:.*}", Files().get)
    ui.on_response_prepare.append(add_headers)
    ui.on_shutdown.append(lambda _: live.end())
    ui.cleanup_ctx.append(actions.running)
    app.add_subapp(PAGE, ui)


async def _to_page(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(PAGE)


# ── ``GET /ui/api/chains`` and ``GET /ui/api/chain`` ──

MAX_PAGE = 200
USUAL_PAGE = 50
MAX_TEXT = 200
MAX_VIEWS = 2
"""Maximum number of answers assembled at a time, since each may take several MiB."""


class ChainRoutes:
    """Parses query parameters, and answers with the chains found."""

    def __init__(self, chains: ChainReader, connections: Connections) -> None:
        self._chains = chains
        self._connections = connections
        self._views, self._pages = asyncio.Semaphore(MAX_VIEWS), asyncio.Semaphore(MAX_VIEWS)

    async def list(self, request: web.Request, access: Access) -> web.StreamResponse:
        wanted = _wanted(request, access)
        async with self._pages:
            await self._connections.room()
            return json(await self._chains.page(wanted))

    async def get(self, request: web.Request, access: Access) -> web.StreamResponse:
        id = request.query.get("id", "")
        if not id:
            raise Malformed("id is missing")
        if not id.startswith(access.prefix):
            raise Forbidden(f"this token is only for ids that begin with {access.prefix!r}")
        async with self._views:
            await self._connections.room()
            view = await self._chains.view(id, access.prefix)
            if view is None:
                raise NotFound("there is no promise with this id")
            return json(view)


def _wanted(request: web.Request, access: Access) -> ChainQuery:
    query = request.query
    try:
        before = decode_place(query["before"]) if query.get("before") else None
        state = PromiseState(query["state"]) if query.get("state") else None
        limit = int(query.get("limit", str(USUAL_PAGE)))
    except BadCursor:
        raise Malformed("before must be what an earlier answer gave as next") from None
    except ValueError:
        raise Malformed(f"state must be one of {', '.join(PromiseState)}, and limit a number") from None
    if not 1 <= limit <= MAX_PAGE:
        raise Malformed(f"limit must be a number from 1 to {MAX_PAGE}")
    text = query.get("text", "")
    if len(text) > MAX_TEXT:
        raise Malformed(f"text must not be longer than {MAX_TEXT} characters")
    return ChainQuery(limit=limit, before=before, state=state, text=text, prefix=access.prefix)
