"""Where messages go: to connected workers by the hub, to HTTP addresses by push."""

from resonate_server.delivery.hub import Hub
from resonate_server.delivery.push import Push
from resonate_server.metrics import Metrics
from resonate_server.protocol.messages import Execute, Message


class Dispatcher:
    """The engine's way out, see :class:`resonate_server.engine.Outbound`."""

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
        """It was sent, perhaps by another way."""
        self._metrics.message("execute" if isinstance(message, Execute) else "unblock")

    def settled(self, ids: list[str]) -> None:
        """Whoever is connected learns it by messages."""

    def withdraw(self, task_id: str, version: int) -> bool:
        """Also tells whether it was for somebody here."""
        self._push.withdraw(task_id)
        return self._hub.withdraw(task_id, version)
