"""The seam for whoever watches: what was decided, told on the event loop after the commit. Watching changes nothing."""

from typing import Protocol

from msgspec import Struct

from resonate_server.kernel.model import Decision, Rows
from resonate_server.protocol.requests import Request


class Decided(Struct, frozen=True):
    """One decision at time ``now`` (ms) on ``rows``, as they were before it.

    ``request``: what asked for it; ``None`` for what happens by itself.
    """

    now: int
    rows: Rows
    decision: Decision
    request: Request | None = None


class Observer(Protocol):
    """Called on the event loop; must be quick, and must not raise."""

    def decided(self, decided: Decided) -> None:
        """It is durable; messages that it causes leave after this call."""


class Nobody:
    """An observer that does not look."""

    def decided(self, decided: Decided) -> None:
        pass
