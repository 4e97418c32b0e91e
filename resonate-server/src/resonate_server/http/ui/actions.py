"""``/ui/api/actions``: the actions that the page offers. The server defines none itself: it reads the list from one
configured URL and forwards clicks to it.

Answers from that URL are checked for shape and size; the page shows their texts as plain text. No token is sent there,
and no redirect is followed.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import aiohttp
import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from resonate_server.bounded_connector import BoundedConnector
from resonate_server.certificates import context_for
from resonate_server.http.auth import Access
from resonate_server.http.bodies import Bodies
from resonate_server.http.ui.access import json
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.errors import Forbidden, Malformed, NotFound, Unavailable
from resonate_server.protocol.payload import NOT_JSON

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1_024
MAX_REASON = 300
"""Maximum number of characters of the error message when the URL refuses a click."""

MAX_AT_A_TIME = 8
"""Maximum number of concurrent requests to the URL; others wait, and fail if that takes too long."""

type Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
type Label = Annotated[str, Meta(min_length=1, max_length=100)]
type Given = int | float | Annotated[str, Meta(max_length=500)]


class Field(Struct, frozen=True):
    """A form field. ``min`` and ``max`` apply to numbers. The page omits fields of a ``type`` that it does not know."""

    name: Name
    label: Label
    type: Annotated[str, Meta(max_length=20)]
    default: Given | None = None
    min: float | None = None
    max: float | None = None
    unit: Annotated[str, Meta(max_length=20)] = ""


class Command(Struct, frozen=True):
    """A command to copy into a terminal."""

    label: Label
    text: Annotated[str, Meta(min_length=1, max_length=500)]


class PageAction(Struct, frozen=True):
    """An action with ``commands`` shows them. Any other is posted to the URL followed by ``/`` and ``name``, with the
    values of its fields as a JSON object.

    ``workers``: offer the action for each worker of the groups whose names begin with this; a click names the worker.
    ``note``: text to show with it.
    """

    name: Name
    label: Label
    fields: Annotated[list[Field], Meta(max_length=8)] = []
    commands: Annotated[list[Command], Meta(max_length=16)] = []
    workers: Annotated[str, Meta(max_length=100)] | None = None
    note: Annotated[str, Meta(max_length=300)] = ""

    def __post_init__(self) -> None:
        if self.workers is not None and (self.fields or self.commands):
            raise ValueError("an action for each worker has neither fields nor commands")


class ActionList(Struct, frozen=True):
    """The list as the URL returns it."""

    actions: Annotated[list[PageAction], Meta(max_length=16)] = []


class ShownActions(ActionList, frozen=True):
    """The list as the page receives it. ``trouble``: one sentence on why it could not be read; empty if it could."""

    trouble: str = ""


class Click(Struct, frozen=True):
    """The page's request. ``worker``: the address of the worker that the action is for."""

    fields: Annotated[dict[Name, Given], Meta(max_length=8)] = {}
    worker: Annotated[str, Meta(max_length=500)] | None = None

    def __post_init__(self) -> None:
        if self.worker is not None and not _names_a_worker(self.worker):
            raise ValueError("worker takes an address like poll://any@group/id")

    @property
    def body(self) -> dict[str, Given]:
        """The body to forward."""
        return self.fields if self.worker is None else {**self.fields, "worker": self.worker}


def _names_a_worker(address: str) -> bool:
    try:
        parsed = parse_address(address)
    except Malformed:
        return False
    return isinstance(parsed, PollAddress) and bool(parsed.id)


class Done(Struct, frozen=True):
    """``id``: the promise that a click has created."""

    id: Annotated[str, Meta(min_length=1, max_length=4_096)]


class _ProblemDetails(Struct, frozen=True):
    """Problem details as in RFC 9457."""

    detail: str


class Actions:
    """``url``: where actions come from; empty if there are none. For use on the event loop while :meth:`running`."""

    def __init__(self, url: str, bodies: Bodies) -> None:
        self._url = url.rstrip("/")
        self._bodies = bodies
        self._session: aiohttp.ClientSession
        self._reading: asyncio.Task[ShownActions] | None = None

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            connector=BoundedConnector(limit=MAX_AT_A_TIME),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        ) as self._session:
            yield

    async def get(self, _: web.Request, access: Access) -> web.StreamResponse:
        """Answer with an empty list if the token does not permit clicks."""
        if access.prefix or not self._url:
            return json(ShownActions())
        return json(await self._read())

    async def post(self, request: web.Request, access: Access) -> web.StreamResponse:
        if access.prefix:
            raise Forbidden("actions need a token without restrictions")
        if not self._url:
            raise NotFound("no actions are configured; RESONATE_UI__ACTIONS_URL does that")
        body, release = await self._bodies.read(request)
        release()
        return json(await self._pass_on(request.match_info["name"], _click(body)), status=202)

    async def _read(self) -> ShownActions:
        """Read the list; concurrent callers share one request."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._fetch())
        return await asyncio.shield(self._reading)

    async def _fetch(self) -> ShownActions:
        try:
            status, answer = await self._ask("GET", self._url)
            if status != 200:
                return ShownActions(trouble=f"{self._url} answers with status {status}")
            listed = msgspec.json.decode(answer, type=ActionList)
        except Unavailable as problem:
            return ShownActions(trouble=str(problem))
        except NOT_JSON as error:
            return ShownActions(trouble=f"{self._url} does not answer with a list of actions: {error}")
        return ShownActions(listed.actions)

    async def _pass_on(self, name: str, click: Click) -> Done:
        status, answer = await self._ask("POST", f"{self._url}/{name}", msgspec.json.encode(click.body))
        if not 200 <= status < 300:
            raise (Malformed if 400 <= status < 500 else Unavailable)(_reason(status, answer))
        try:
            return msgspec.json.decode(answer, type=Done)
        except NOT_JSON:
            raise Unavailable(f"{self._url} did not say what it has started") from None

    async def _ask(self, method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body. Raises :class:`Unavailable` if the answer is too late or too large, or there is none.

        Only ``body`` is forwarded from the page's request.
        """
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, ssl=context_for(url)
            ) as response:
                return response.status, await self._read_answer(response.content)
        except TimeoutError:
            raise Unavailable(f"{self._url} did not answer within {TIMEOUT_S:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"{self._url} does not answer: {error}") from None

    async def _read_answer(self, content: aiohttp.StreamReader) -> bytes:
        read = bytearray()
        async for chunk in content.iter_any():
            read += chunk
            if len(read) > MAX_ANSWER_BYTES:
                raise Unavailable(f"{self._url} answers with more than {MAX_ANSWER_BYTES} bytes")
        return bytes(read)


def _click(body: bytes) -> Click:
    try:
        return msgspec.json.decode(body or b"{}", type=Click)
    except NOT_JSON as error:
        raise Malformed(f"not a valid action request: {error}") from None


def _reason(status: int, answer: bytes) -> str:
    try:
        return msgspec.json.decode(answer, type=_ProblemDetails).detail[:MAX_REASON]
    except NOT_JSON:
        return f"it was refused with status {status}"
