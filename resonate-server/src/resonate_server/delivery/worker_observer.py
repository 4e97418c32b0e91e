"""The seam for whoever watches delivery: workers come and go, and what they are told. Watching changes nothing."""

from resonate_server.protocol.messages import Execute


class WorkerObserver:
    """Called on the event loop; must be quick, and must not raise. A worker is a process (``pid``) in a group.

    This one does not look.
    """

    def worker_connected(self, group: str, pid: str, again: bool) -> None:
        """It has a new stream; ``again``: after one that this server has ended."""

    def worker_left(self, group: str, pid: str, planned: bool) -> None:
        """Its stream has ended, ``planned`` by this server or not."""

    def worker_silent(self, group: str, pid: str) -> None:
        """The process let a lease lapse."""

    def worker_gone(self, group: str, pid: str) -> None:
        """The process stayed away for too long."""

    def worker_heard(self, group: str, pid: str) -> None:
        """The process has sent a request of its own; told once in a while, and when it was silent before."""

    def task_sent(self, group: str, pid: str, execute: Execute) -> None:
        """The task was handed to the worker's stream."""
