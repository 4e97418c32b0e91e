"""The interface for observers of delivery: workers that come and go, and their tasks. Observing changes nothing."""

from resonate_server.protocol.messages import Execute


class WorkerObserver:
    """Called on the event loop; must be quick, and must not raise. A worker is a process (``pid``) in a group.

    This base class does nothing.
    """

    def worker_connected(self, group: str, pid: str, again: bool) -> None:
        """The worker has a new stream; ``again``: after one that this server has ended."""

    def worker_left(self, group: str, pid: str, planned: bool) -> None:
        """The worker's stream has ended, ``planned`` by this server or not."""

    def worker_silent(self, group: str, pid: str) -> None:
        """The process let a lease lapse."""

    def worker_gone(self, group: str, pid: str) -> None:
        """The process stayed away too long."""

    def worker_heard(self, group: str, pid: str) -> None:
        """The process was silent and has sent a request of its own."""

    def task_sent(self, group: str, pid: str, execute: Execute) -> None:
        """The task was handed to the worker's stream."""
