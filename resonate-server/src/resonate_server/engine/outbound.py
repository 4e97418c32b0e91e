"""Those that the engine tells, on the event loop, after the commit: delivery, and observers of decisions."""

from typing import Protocol

from resonate_server.protocol.messages import Execute, Message, OwedUnblock
from resonate_server.store import Decided


class DecisionObserver:
    """Must be quick, and must not raise. Observing changes nothing. This base class does nothing."""

    def decided(self, decided: Decided) -> None:
        """The decision is durable; the messages that it causes leave after this call."""

    def close(self) -> None:
        """No more decisions will come."""


class Outbound(Protocol):
    """Delivery: sends messages, and takes in what it has requested from the store."""

    def send(self, message: Message) -> None:
        """Deliver the message, or leave it in the store."""

    def withdraw(self, task_id: str, version: int) -> object:
        """Stop offering the task at this version or an earlier one."""

    def settled(self, ids: list[str]) -> None:
        """One decision settled these promises, for which an execution may wait."""

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None:
        """Take in the queued tasks of a group, as requested; ``complete`` if there are no more."""

    def fell_silent(self, group: str, pid: str, /) -> None:
        """The worker let a lease lapse: prefer others until it is heard from."""

    def heard_from(self, pid: str, prefix: str = "", /) -> None:
        """The process has sent a request of its own, and may speak for groups that begin with ``prefix``."""

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        """Take in undelivered messages for a listener, from after place ``after``, as requested. Without a group, they
        are for HTTP addresses."""

    def is_at_work(self, group: str, pid: str, /) -> None:
        """The worker left tasks unclaimed, but holds others, so it may be full."""

    def refresh(self) -> None:
        """Request everything undelivered again: some of it may not have been sent."""

    def reset(self) -> None:
        """Drop all messages: everything was deleted."""
