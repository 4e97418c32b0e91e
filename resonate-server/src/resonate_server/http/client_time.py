"""The time that clients have. It passes only while this server runs: a server that was frozen, or whose machine slept,
first reads what has arrived meanwhile, and nobody counts as slow who was not.
"""

import asyncio
from types import TracebackType

STEP_S = 1.0


class ClientTime:
    """``seconds``: how long a client may take to send the rest of a request, and to read the answer. ``now``: how long
    the server has run, in s."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.limits: set[ClientLimit] = set()
        """Those under way."""

    def pass_step(self) -> None:
        """Let :data:`STEP_S` pass. Called that often."""
        self.now += STEP_S
        for limit in [limit for limit in self.limits if self.now > limit.end]:
            limit.expire()


class ClientLimit:
    """Raises ``TimeoutError`` within its ``async with`` once the client has had its time, or at :meth:`expire`."""

    def __init__(self, patience: ClientTime) -> None:
        self._patience = patience
        self._timeout = asyncio.timeout(None)
        self.end = patience.now + patience.seconds

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._patience.limits.add(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patience.limits.discard(self)
        await self._timeout.__aexit__(kind, error, trace)

    def restart(self) -> None:
        self.end = self._patience.now + self._patience.seconds

    def shorten(self, seconds: float) -> None:
        """Leave at most ``seconds``."""
        self.end = min(self.end, self._patience.now + seconds)

    def expire(self) -> None:
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())
