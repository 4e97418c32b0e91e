"""gunicorn's asynchronous worker, with limits for clients that are slow or many: it has settings for neither.

Each override of gunicorn 27.0.1 names a test that fails without it.
"""

import asyncio
from typing import Any, ClassVar, override

from gunicorn.asgi.protocol import ASGIProtocol

# How long a client may take to send its request, and how many may be at it. The first ones make room.
ARRIVAL_SECONDS = 10
MAX_ARRIVING = 1024
# A client that has closed its side may still read (`nc -N`), or its process has ended: nobody can tell.
MAX_HALF_CLOSED = 256


class BoundedProtocol(ASGIProtocol):
    arriving: ClassVar[dict["BoundedProtocol", None]] = {}
    half_closed: ClassVar[dict["BoundedProtocol", None]] = {}

    @override
    def connection_made(self, transport: Any) -> None:
        """See test_600_half_requests_delay_nobody_and_are_closed."""
        super().connection_made(transport)
        self._abort = transport.abort
        self._deadline = asyncio.get_running_loop().call_later(ARRIVAL_SECONDS, self._abort)
        self._join(self.arriving, MAX_ARRIVING)

    @override
    def _on_message_complete(self) -> None:  # type: ignore[misc]
        """See test_a_request_may_wait_for_longer_than_it_may_take_to_arrive."""
        super()._on_message_complete()  # type: ignore[misc]
        self._leave()

    @override
    def eof_received(self) -> bool:
        """See test_a_client_that_closes_its_side_is_answered."""
        if self in self.arriving:
            return False
        self._join(self.half_closed, MAX_HALF_CLOSED)
        return True

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """See test_clients_that_closed_their_side_and_are_gone_take_no_place_from_one_that_waits."""
        super().connection_lost(exc)
        self._leave()

    def _join(self, group: dict["BoundedProtocol", None], most: int) -> None:
        group[self] = None
        if len(group) > most:
            first = next(iter(group))
            first._leave()
            first._abort()

    def _leave(self) -> None:
        self._deadline.cancel()
        self.arriving.pop(self, None)
        self.half_closed.pop(self, None)
