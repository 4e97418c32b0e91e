"""The live page at ``/ui/``: its files, the API it uses, and access control.

Contract: the contents of promises are untrusted. So answers are JSON and never markup, the headers forbid the page
everything it does not need, and ids are passed as query parameters.
"""

from aiohttp import web

from resonate_server.config import Settings
from resonate_server.http.auth import Guard
from resonate_server.http.connections import Connections
from resonate_server.http.ui.access import add_headers, protected, tell_problems
from resonate_server.http.ui.actions import Actions
from resonate_server.http.ui.chain_routes import ChainRoutes
from resonate_server.http.ui.files import Files
from resonate_server.http.ui.live import Live
from resonate_server.watch import Watch

PAGE = "/ui/"

LINKABLE = ("/", "/ui", PAGE, f"{PAGE}index.html")
"""Paths of the page and of the redirects to it. Other sites may link to them."""


def add_ui(app: web.Application, watch: Watch, guard: Guard, settings: Settings, connections: Connections) -> None:
    """Serve the page, which shows the data of ``watch``."""
    app.router.add_get("/", _to_page)
    app.router.add_get("/ui", _to_page)
    app.add_subapp(PAGE, _build(watch, guard, settings, connections))


def _build(watch: Watch, guard: Guard, settings: Settings, connections: Connections) -> web.Application:
    ui = web.Application(middlewares=[tell_problems])
    chains, actions = ChainRoutes(watch.chains, connections), Actions(settings.ui.actions_url)
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
    return ui


async def _to_page(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(PAGE)
