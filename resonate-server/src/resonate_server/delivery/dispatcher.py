"""Sends messages to connected workers through the hub, and to HTTP addresses through push."""

from resonate_server.delivery.hub import Hub
from resonate_server.delivery.push import Push
from resonate_server.metrics import Metrics
from resonate_server.protocol.messages import Execute, Message


class Dispatcher:
    """Implements :class:`resonate_server.engine.Outbound` for this server's workers."""

    def __init__(self, hub: Hub, push: Push, metrics: Metrics) -> None:
        self._push = push
        self._hub = hub
        self._metrics = metrics
        self.refill = hub.refill
        self.refresh = hub.refresh
        self.fell_silent = hub.fell_silent
        self.heard_from = hub.heard_from
        self.give = hub.give
        self.is_at_work = hub.is_at_work
        self.reset = hub.reset

    def send(self, message: Message) -> None:
        self.count(message)
        self._hub.send(message)

    def count(self, message: Message) -> None:
        """Count a message as sent, even by another server."""
        self._metrics.message("execute" if isinstance(message, Execute) else "unblock")

    def settled(self, ids: list[str]) -> None:
        """Do nothing: messages tell connected workers."""

    def withdraw(self, task_id: str, version: int) -> bool:
        """Return whether a worker here was to get the task."""
        self._push.withdraw(task_id, version)
        return self._hub.withdraw(task_id, version)
