"""Room for the data of tasks at work, in bytes: what they were claimed with stays in memory until they leave."""

import asyncio
from collections import deque
from typing import Final

ROOM_BYTES: Final = 48 * 1024 * 1024
"""At most this is claimed at a time. Decoded, it takes a good twice as much memory."""
UNREAD_BYTES: Final = 4 * 1024 * 1024
"""How large a task may be, for all that is known before the server answers its claim."""


class Room:
    """Grants bytes, first come, first served."""

    def __init__(self) -> None:
        self._free = ROOM_BYTES
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    async def enter(self) -> None:
        """Wait for room for a task that is not read yet."""
        if self._waiting or self._free < UNREAD_BYTES:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._free -= UNREAD_BYTES

    def admit_all(self) -> None:
        """Let everybody in who waits, room or not."""
        while self._waiting:
            if not (turn := self._waiting.popleft()).done():
                turn.set_result(None)

    def keep(self, size: int) -> None:
        """Of the room for a task that is not read yet, keep `size` bytes; it may be more, as it is there already."""
        self.leave(UNREAD_BYTES - size)

    def leave(self, size: int) -> None:
        self._free += size
        while self._waiting and self._free >= UNREAD_BYTES:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled
                self._free -= UNREAD_BYTES
                turn.set_result(None)
