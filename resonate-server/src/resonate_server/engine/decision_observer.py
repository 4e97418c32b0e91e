"""The seam for whoever watches: what was decided, told on the event loop after the commit. Watching changes nothing."""

from resonate_server.store import Decided


class DecisionObserver:
    """Called on the event loop; must be quick, and must not raise. This one does not look."""

    def decided(self, decided: Decided) -> None:
        """It is durable; messages that it causes leave after this call."""

    def close(self) -> None:
        """There is nothing more to come."""
