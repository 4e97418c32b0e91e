"""The time that clients have. It passes only while this server runs: a server that was frozen, or whose machine slept,
first reads what has arrived meanwhile, and nobody counts as slow who was not.
"""

from typing import Protocol

STEP_S = 1.0


class Sender(Protocol):
    """The source of a request that is still arriving."""

    def evict(self) -> None:
        """Stop reading the request."""


class ClientTime:
    """``seconds``: how long a client may take to send the rest of a request, and to read the answer. ``now``: how long
    the server has run, in s."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self._ends: dict[Sender, float] = {}

    def begin(self, sender: Sender) -> None:
        """Evict the sender after :attr:`seconds`, unless it is dropped before or begins again."""
        self._ends[sender] = self.now + self.seconds

    def hurry(self, sender: Sender, seconds: float) -> None:
        """Leave it at most ``seconds``."""
        self._ends[sender] = min(self._ends[sender], self.now + seconds)

    def drop(self, sender: Sender) -> None:
        del self._ends[sender]

    def pass_step(self) -> None:
        """Let :data:`STEP_S` pass. Called that often."""
        self.now += STEP_S
        for sender in [sender for sender, end in self._ends.items() if self.now > end]:
            sender.evict()
