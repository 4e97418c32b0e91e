"""Connections to servers that are not trusted, for aiohttp's client."""

from functools import partial
from typing import Any, override

import aiohttp
from aiohttp.client_proto import ResponseHandler

MAX_UNREAD = 16
"""Answers that may wait to be read. Only interim ones (100 Continue) can be more than one per request."""

PART_BYTES = 4 * 1_024
"""Parsed at a time: at most 164 answers, which take some milliseconds."""


class BoundedConnector(aiohttp.TCPConnector):
    """Closes connections on which answers come faster than they are read.

    aiohttp takes any number of interim answers, and a server that sends them without end kept the event loop from
    everything else.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_BoundedHandler, loop=self._loop)  # type: ignore[assignment]  # it is invariant


class _BoundedHandler(ResponseHandler):
    @override
    def data_received(self, data: bytes) -> None:
        for begin in range(0, len(data) or 1, PART_BYTES):
            super().data_received(data[begin : begin + PART_BYTES])
            if len(self) > MAX_UNREAD:
                self.close()
                return
