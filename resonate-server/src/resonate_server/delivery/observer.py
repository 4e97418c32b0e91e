"""The seam for whoever watches delivery: workers come and go, and what they are told. Watching changes nothing."""

from typing import Protocol

from resonate_server.protocol.messages import Execute


class Observer(Protocol):
    """Called on the event loop; must be quick, and must not raise."""

    def connected(self, group: str, pid: str) -> None:
        """The worker has a new stream."""

    def left(self, group: str, pid: str, planned: bool) -> None:
        """Its stream has ended, ``planned`` by this server or not."""

    def sent(self, group: str, pid: str, execute: Execute) -> None:
        """The task was handed to the worker's stream."""

    def silent(self, pid: str) -> None:
        """The process let a lease lapse."""

    def heard(self, pid: str) -> None:
        """The process has sent a request of its own."""


class Nobody:
    """An observer that does not look."""

    def connected(self, group: str, pid: str) -> None:
        pass

    def left(self, group: str, pid: str, planned: bool) -> None:
        pass

    def sent(self, group: str, pid: str, execute: Execute) -> None:
        pass

    def silent(self, pid: str) -> None:
        pass

    def heard(self, pid: str) -> None:
        pass
