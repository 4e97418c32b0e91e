"""Workers whose stream broke: after a grace period without a sign of life they count as gone (protocol section 9,
item 4)."""

import asyncio
from collections.abc import Callable


class Absences:
    """Used on the event loop. ``gone(pid)`` is called once for each process that stayed away for ``grace`` seconds.

    A stream that stays open proves nothing (a frozen process keeps it), but one that breaks is a strong hint: a
    live worker is
    back within a second or two. Only processes that had a stream are ever judged, and a heartbeat acquits.
    """

    def __init__(self, grace: float, gone: Callable[[str], None]) -> None:
        self._grace = grace
        self._gone = gone
        self._pending: dict[str, asyncio.TimerHandle] = {}

    def lost(self, pid: str) -> None:
        """The stream of ``pid`` broke."""
        self.heard(pid)
        self._pending[pid] = asyncio.get_running_loop().call_later(self._grace, self._expire, pid)

    def heard(self, pid: str) -> None:
        """``pid`` lives: it reconnected or sent a request of its own."""
        handle = self._pending.pop(pid, None)
        if handle is not None:
            handle.cancel()

    def close(self) -> None:
        """Judge nobody any more: what stops is this server, not the workers."""
        for handle in self._pending.values():
            handle.cancel()
        self._pending.clear()

    def _expire(self, pid: str) -> None:
        del self._pending[pid]
        self._gone(pid)
