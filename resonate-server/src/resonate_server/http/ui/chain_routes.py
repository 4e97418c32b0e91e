"""``GET /ui/api/chains`` and ``GET /ui/api/chain``."""

import asyncio

from aiohttp import web

from resonate_server.http.auth import Access
from resonate_server.http.connections import Connections
from resonate_server.http.ui.access import Problem, json
from resonate_server.protocol.records import PromiseState
from resonate_server.watch.chain_reader import BadCursor, ChainQuery, ChainReader, decode_place

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
            raise Problem(400, "id is missing")
        if not id.startswith(access.prefix):
            raise Problem(403, f"this token is only for ids that begin with {access.prefix!r}")
        async with self._views:
            await self._connections.room()
            view = await self._chains.view(id, access.prefix)
            if view is None:
                raise Problem(404, "there is no promise with this id")
            return json(view)


def _wanted(request: web.Request, access: Access) -> ChainQuery:
    query = request.query
    try:
        before = decode_place(query["before"]) if query.get("before") else None
        state = PromiseState(query["state"]) if query.get("state") else None
        limit = int(query.get("limit", str(USUAL_PAGE)))
    except BadCursor:
        raise Problem(400, "before must be what an earlier answer gave as next") from None
    except ValueError:
        raise Problem(400, f"state must be one of {', '.join(PromiseState)}, and limit a number") from None
    if not 1 <= limit <= MAX_PAGE:
        raise Problem(400, f"limit must be a number from 1 to {MAX_PAGE}")
    text = query.get("text", "")
    if len(text) > MAX_TEXT:
        raise Problem(400, f"text must not be longer than {MAX_TEXT} characters")
    return ChainQuery(limit=limit, before=before, state=state, text=text, prefix=access.prefix)
