"""How many bytes of large answers are under way: decided, and not yet written out to those who asked.

Requests are decided many at a time, and a small one may be answered with megabytes, which are in memory several times
over (texts, rows, JSON).
"""

LARGE_BYTES = 64 * 1_024
"""Answers up to this are not counted: they may always leave."""

MAX_OUTGOING_BYTES = 16 * 1_024 * 1_024
"""Of large answers. The last one may go beyond it: a promise has at most two payloads of the size of a body."""

MAX_HELD_BACK = 256
"""Requests that wait until large answers have left; further ones are refused."""


class Outgoing:
    def __init__(self) -> None:
        self._leaving = 0
        self._decided = 0

    @property
    def is_full(self) -> bool:
        return self._leaving + self._decided >= MAX_OUTGOING_BYTES

    def begin(self) -> None:
        """A transaction. What an earlier one has decided is leaving, or will not be told."""
        self._decided = 0

    def decided(self, size: int) -> None:
        """In this transaction."""
        self._decided += size

    def leaves(self, size: int) -> None:
        """It is committed, and being told."""
        self._leaving += size

    def left(self, size: int) -> None:
        """It is written out."""
        self._leaving -= size
