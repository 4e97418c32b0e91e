"""A wire between a program and a server that can be cut: then nothing passes any more, and neither end hears of it."""

import asyncio
import threading
from typing import Self
from urllib.parse import urlsplit

from harness.basics import free_port

CHUNK_BYTES = 64 * 1_024


class Wire:
    """Leads from a port of this machine, ``url``, to the server at ``target``, an URL, while it is open."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._target = address.hostname, address.port
        self._own = free_port()
        self.url = f"http://127.0.0.1:{self._own}"
        self._is_cut = False
        self._passing: set[asyncio.Task[None] | None] = set()
        """The loop itself holds on to nobody who waits for what never comes."""
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
        """Swallow everything from now on: data, new connections, and the end of old ones."""
        self._is_cut = True

    def mend(self) -> None:
        """For new connections; those that were open stay silent no longer than their ends do."""
        self._is_cut = False

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._passing.add(asyncio.current_task())
        if self._is_cut:
            await reader.read()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        for each in (writer, far_writer):  # of a cut wire that was mended, one end may not know yet
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
        await asyncio.sleep(0)  # what was about to be accepted begins, and can be ended
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
