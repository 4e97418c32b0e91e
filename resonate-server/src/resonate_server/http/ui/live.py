"""``GET /ui/api/events``: an endless response with one JSON object per line."""

import asyncio

from aiohttp import ClientConnectionError, web
from msgspec import Struct

from resonate_server.http.auth import Access
from resonate_server.http.connections import begin_stream
from resonate_server.watch import Watch
from resonate_server.watch.events import encoder
from resonate_server.watch.ring import PAUSE_S, Overtaken, Viewer
from resonate_server.watch.views import GroupView

BEAT_S = 2.0
"""A line is written at least this often."""

NEWS_BEAT_S = 0.5
"""Maximum time from an event to the next beat."""

MAX_PAST = 1_000
"""Maximum number of earlier events that a new viewer receives."""

STREAM_S = 600.0
"""Maximum age of a stream if tokens are required: the viewer then reconnects and sends its token again."""


class Hello(Struct, frozen=True, tag_field="kind", tag="hello"):
    """``resumed``: whether the stream continues after the last event that the viewer has seen. If not, it sends the
    past events that the viewer asked for, then everything after ``seq``."""

    epoch: str
    seq: int
    at: int
    resumed: bool
    groups: list[GroupView]


class Beat(Struct, frozen=True, tag_field="kind", tag="beat"):
    """A sign of life with the current state of the workers, so that the viewer's own cannot drift."""

    at: int
    groups: list[GroupView]


class Live(Struct, frozen=True):
    """``auth``: whether tokens are required."""

    watch: Watch
    auth: bool

    async def get(self, request: web.Request, access: Access) -> web.StreamResponse:
        viewer, resumed = self.watch.feed.open(access.prefix, request.query.get("after", ""), _past(request))
        try:
            hello = await self._hello(viewer, resumed)
            headers = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
            response = await begin_stream(request, headers)
            await self._serve(response, viewer, hello)
        except (ClientConnectionError, Overtaken):
            pass  # The page reconnects when it can, and says which event it saw last.
        finally:
            self.watch.feed.leave(viewer)
        return response

    async def end(self) -> None:
        """End all streams, because the server shuts down."""
        self.watch.feed.close()

    async def _serve(self, response: web.StreamResponse, viewer: Viewer, hello: Hello) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + STREAM_S
        await response.write(_line(hello))
        next_beat = loop.time() + BEAT_S
        while viewer.is_open and not (self.auth and loop.time() > end):
            await self.watch.feed.wait(viewer, next_beat - loop.time())
            lines = self.watch.feed.take(viewer)
            if lines:
                next_beat = min(next_beat, loop.time() + NEWS_BEAT_S)
            if loop.time() >= next_beat:
                next_beat = loop.time() + BEAT_S
                lines += _line(Beat(self.watch.now(), await self.watch.groups(viewer.prefix)))
            if lines:
                await response.write(lines)
            await asyncio.sleep(PAUSE_S)

    async def _hello(self, viewer: Viewer, resumed: bool) -> Hello:
        return Hello(
            epoch=self.watch.ring.epoch,
            seq=self.watch.feed.news_after(viewer, resumed),
            at=self.watch.now(),
            resumed=resumed,
            groups=await self.watch.groups(viewer.prefix),
        )


def _past(request: web.Request) -> int:
    text = request.query.get("past", "0")
    return min(int(text), MAX_PAST) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _line(data: Struct) -> bytes:
    return encoder.encode(data) + b"\n"
