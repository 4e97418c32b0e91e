"""``GET /backup``: an online copy of the database. Requires a token that permits everything."""

import asyncio
import logging
import os
from pathlib import Path
from typing import BinaryIO

from aiohttp import web
from msgspec import Struct

from resonate_server.http.auth import Guard
from resonate_server.protocol.errors import Forbidden
from resonate_server.store import Store

logger = logging.getLogger(__name__)

CHUNK_BYTES = 256 * 1024
GRACE_S, LEAST_BYTES_PER_S = 60.0, 100_000
"""A client that is slower than this keeps others from a backup: it does not get all of it."""


class Backups(Struct):
    """Makes one copy at a time, in a temporary file beside the database."""

    store: Store
    guard: Guard
    is_making: bool = False

    async def get(self, request: web.Request) -> web.StreamResponse:
        if self.guard.authenticate(None, request.headers.get("Authorization")).prefix:
            raise Forbidden("a backup holds everything: it is not allowed with a token that has a prefix")
        if self.is_making:
            return web.Response(status=503, text="another backup is being made\n", headers={"Retry-After": "10"})
        self.is_making = True
        try:
            return await self._answer(request)
        finally:
            self.is_making = False

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            path = await self.store.backup()
        except Exception as error:
            logger.warning("no backup could be made: %s", error)
            return web.Response(status=503, text=f"no backup could be made: {error}\n")
        if path is None:
            return web.Response(status=409, text="this server keeps its state in memory: there is nothing to copy\n")
        return await _send(request, path)


async def _send(request: web.Request, path: Path) -> web.StreamResponse:
    with _open_and_remove(path) as file:
        size = os.fstat(file.fileno()).st_size
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.sqlite3", "Content-Length": str(size)})
        await response.prepare(request)
        try:
            async with asyncio.timeout(GRACE_S + size / LEAST_BYTES_PER_S):
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    await response.write(chunk)
                await response.write_eof()
        except TimeoutError:
            logger.warning("a backup of %d bytes was given up: its client is too slow", size)
            raise ConnectionResetError from None
    logger.info("a backup of %d bytes was taken", size)
    return response


def _open_and_remove(path: Path) -> BinaryIO:
    """Unlink the file while it is open, so that it disappears once it is closed, even after a crash."""
    file = path.open("rb")
    path.unlink()
    return file
