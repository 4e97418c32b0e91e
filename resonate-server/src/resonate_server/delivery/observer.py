"""The seam for whoever watches delivery: workers come and go, and what they are told. Watching changes nothing."""

from typing import Protocol

from resonate_server.protocol.messages import Execute


class Observer(Protocol):
    """Called on the event loop; must be quick, and must not raise. A worker is a process (``pid``) in a group."""

    def connected(self, group: str, pid: str, again: bool) -> None:
        """The worker has a new stream; ``again``: after one that this server has ended."""

    def left(self, group: str, pid: str, planned: bool) -> None:
        """Its stream has ended, ``planned`` by this server or not."""

    def silent(self, group: str, pid: str) -> None:
        """The process let a lease lapse."""

    def gone(self, group: str, pid: str) -> None:
        """The process stayed away for too long."""

    def heard(self, group: str, pid: str) -> None:
        """The process has sent a request of its own; told once in a while, and when it was silent before."""

    def sent(self, group: str, pid: str, execute: Execute) -> None:
        """The task was handed to the worker's stream."""


class Nobody:
    """An observer that does not look."""

    def connected(self, group: str, pid: str, again: bool) -> None:
        pass

    def left(self, group: str, pid: str, planned: bool) -> None:
        pass

    def silent(self, group: str, pid: str) -> None:
        pass

    def gone(self, group: str, pid: str) -> None:
        pass

    def heard(self, group: str, pid: str) -> None:
        pass

    def sent(self, group: str, pid: str, execute: Execute) -> None:
        pass
