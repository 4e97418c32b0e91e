"""The seam for whoever watches: what was decided, told on the event loop after the commit. Watching changes nothing."""

from typing import Protocol

from resonate_server.store import Decided


class Observer(Protocol):
    """Called on the event loop; must be quick, and must not raise."""

    def decided(self, decided: Decided) -> None:
        """It is durable; messages that it causes leave after this call."""


class Nobody:
    """An observer that does not look."""

    def decided(self, decided: Decided) -> None:
        pass
