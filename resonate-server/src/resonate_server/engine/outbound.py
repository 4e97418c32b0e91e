"""The seam to delivery: where messages go, and the answers to what delivery asks for."""

from typing import Protocol

from resonate_server.protocol.messages import Execute, Message, OwedUnblock


class Outbound(Protocol):
    """Called on the event loop, after the commit."""

    def send(self, message: Message) -> None:
        """Deliver it, or leave it to the store to remember."""

    def withdraw(self, task_id: str, version: int) -> object:
        """Nobody needs to be told of the task at this version any more."""

    def settled(self, ids: list[str]) -> None:
        """One decision has settled these promises."""

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None:
        """The answer to a request for the queued tasks of a group."""

    def fell_silent(self, pid: str) -> None:
        """The process let a lease lapse: tell others rather than it, until it is heard of."""

    def heard_from(self, pid: str) -> None:
        """The process has sent a request of its own."""

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        """The answer to a request for what is owed to a listener, from after a place on."""

    def is_at_work(self, pid: str) -> None:
        """The process, which has not claimed what it was told of, holds other tasks."""

    def refresh(self) -> None:
        """Something owed may not have been sent: ask for it again."""

    def reset(self) -> None:
        """Everything was deleted: nobody is to be told of anything."""
