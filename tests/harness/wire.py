"""A proxy between a program and a server that can be cut: nothing passes any more, and neither end is notified."""

import asyncio
import threading
from typing import Self
from urllib.parse import urlsplit

from harness.basics import free_port

CHUNK_BYTES = 64 * 1_024


class Wire:
    """While open, forwards connections from a local port, ``url``, to the server at the URL ``target``."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._target = address.hostname, address.port
        self._own = free_port()
        self.url = f"http://127.0.0.1:{self._own}"
        self._is_cut = False
        self._passing: set[asyncio.Task[None] | None] = set()
        """Keeps references to tasks, because the loop would drop those that wait for data that never comes."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Self:
        self._thread.start()
        serving = asyncio.start_server(self._connect, "127.0.0.1", self._own)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result()
        return self

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """From now on swallow everything: data, new connections, and the closing of old ones."""
        self._is_cut = True

    def mend(self) -> None:
        """Forward new connections again. Connections from before the cut stay silent until their ends give up."""
        self._is_cut = False

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(asyncio.current_task())
        if self._is_cut:
            await reader.read()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        for each in (writer, far_writer):  # after a cut and a repair, one end may still be open
            each.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                if not self._is_cut:
                    sink.write(data)
                    await sink.drain()
        except ConnectionError:
            pass
        if not self._is_cut:
            sink.close()

    async def _end(self) -> None:
        self._server.close()
        await asyncio.sleep(0)  # lets connections that are being accepted start, so that they can be cancelled
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
