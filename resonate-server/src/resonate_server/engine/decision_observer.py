"""The interface for observers of decisions, told on the event loop after the commit. Observing changes nothing."""

from resonate_server.store import Decided


class DecisionObserver:
    """Called on the event loop; must be quick, and must not raise. This base class does nothing."""

    def decided(self, decided: Decided) -> None:
        """The decision is durable; the messages that it causes leave after this call."""

    def close(self) -> None:
        """No more decisions will come."""
