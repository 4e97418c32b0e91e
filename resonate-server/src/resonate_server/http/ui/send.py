"""``POST /ui/api/send``: start a chain through foo. Everything else the page can only look at."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from resonate_server.http.auth import Access
from resonate_server.http.ui.access import Problem, json

TIMEOUT_S = 5.0
MAX_BODY = 1_024
MAX_ANSWER = 64 * 1_024


class Wish(Struct, frozen=True, forbid_unknown_fields=True):
    """``pause``: how many seconds bar pauses."""

    pause: Annotated[float, Meta(ge=0, le=3_600)] = 0


class Sent(Struct, frozen=True):
    """The id of the chain that was started."""

    id: str


class Sender:
    """``foo_url``: where foo is; empty if it is not known. Used on the event loop, while :meth:`running`."""

    def __init__(self, foo_url: str) -> None:
        self._foo_url = foo_url.rstrip("/")
        self._session: aiohttp.ClientSession

    @property
    def is_configured(self) -> bool:
        return bool(self._foo_url)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as self._session:
            yield

    async def post(self, request: web.Request, access: Access) -> web.StreamResponse:
        if access.prefix:
            raise Problem(403, "sending a request needs a token that permits everything")
        if not self.is_configured:
            raise Problem(503, "the server does not know where foo is: set RESONATE_UI__FOO_URL")
        return json(await self._start(await _wish(request)), status=202)

    async def _start(self, wish: Wish) -> Sent:
        """Without waiting for the result."""
        headers = {"Prefer": "respond-async", "Content-Type": "application/json"}
        try:
            async with self._session.post(
                f"{self._foo_url}/foo", data=msgspec.json.encode(wish), headers=headers, allow_redirects=False
            ) as response:
                answer = await response.content.read(MAX_ANSWER)
        except TimeoutError:
            raise Problem(503, f"foo did not answer within {TIMEOUT_S:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Problem(503, f"foo does not answer: {error}") from None
        if response.status not in (200, 202):
            raise Problem(503, f"foo refused the request with status {response.status}")
        try:
            return msgspec.json.decode(answer, type=Sent)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Problem(503, "foo's answer does not name a chain") from None


async def _wish(request: web.Request) -> Wish:
    if (request.content_length or 0) > MAX_BODY:
        raise Problem(400, "the body is too long")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            body = await request.content.read(MAX_BODY)
    except TimeoutError:
        raise Problem(408, "the body came too slowly") from None
    try:
        return msgspec.json.decode(body or b"{}", type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f'the body must be like {{"pause": 10}}: {error}') from None
