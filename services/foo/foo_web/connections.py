"""Limits for slow clients and for many connections, for which gunicorn's asynchronous worker has no settings.

Each override of gunicorn 27.0.1 names a test that fails without it.
"""

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar, override

from gunicorn.asgi.protocol import _REASON_PHRASES, ASGIProtocol  # type: ignore[attr-defined]

# gunicorn has only some phrases, and not those of RFC 9110: test_a_status_line_says_what_became_of_a_request.
_REASON_PHRASES.update({status: status.phrase for status in HTTPStatus})

# How long a client may take to send its request, and how many may be sending one; beyond that the oldest is closed.
ARRIVAL_SECONDS = 10
MAX_ARRIVING = 1024


class BoundedProtocol(ASGIProtocol):
    arriving: ClassVar[dict["BoundedProtocol", None]] = {}

    @override
    def connection_made(self, transport: Any) -> None:
        """See test_600_half_requests_delay_nobody_and_are_closed, and
        test_more_half_requests_than_there_is_room_for_delay_nobody."""
        super().connection_made(transport)
        self._abort = transport.abort
        self._deadline = asyncio.get_running_loop().call_later(ARRIVAL_SECONDS, self._abort)
        self.arriving[self] = None
        if len(self.arriving) > MAX_ARRIVING:
            first = next(iter(self.arriving))
            first._leave()
            first._abort()

    @override
    def _on_message_complete(self) -> None:  # type: ignore[misc]
        """See test_a_request_may_wait_for_longer_than_it_may_take_to_arrive."""
        super()._on_message_complete()  # type: ignore[misc]
        self._leave()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """See test_clients_that_leave_early_take_no_place_from_others."""
        super().connection_lost(exc)
        self._leave()

    def _leave(self) -> None:
        self._deadline.cancel()
        self.arriving.pop(self, None)
