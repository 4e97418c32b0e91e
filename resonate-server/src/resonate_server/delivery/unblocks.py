"""Delivers results to their listeners. The store keeps every ``unblock`` until it has surely been read; memory holds
only what open streams are about to take, within a budget of bytes.

A listener that has caught up gets new messages directly. One without room falls behind: whenever there is room again,
the store is asked for the next portion, until the listener has caught up. A new listener starts that way. So memory
depends neither on how much is undelivered nor on who is absent.

The cost of an operation does not depend on the number of messages or listeners.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from resonate_server.delivery.worker_stream import UNBLOCK_WINDOW, WorkerStream
from resonate_server.kernel.sizes import weight
from resonate_server.protocol.address import PollAddress
from resonate_server.protocol.messages import OwedUnblock, Unblock, UnblockKey

ALL_BYTES = 16 * 1_024 * 1_024
"""Limit on all ``unblock`` messages that wait for streams to take them. A single larger one is accepted."""

STREAM_BYTES = 1_024 * 1_024
"""Limit on those that wait for one stream. A larger one is accepted if it is the stream's only one."""

ASSURED_BYTES = 16 * 1_024
"""Every stream may have this much waiting: one that does not read must not block others."""

OVERHEAD_BYTES = 1_024
"""Size of a message without its promise."""

CONFIRMED_AT_ONCE = 5_000
"""Most messages reported as read in one go: a few milliseconds."""


def weight_of(unblock: Unblock) -> int:
    """Return roughly how many bytes of memory the message takes."""
    return OVERHEAD_BYTES + weight(unblock.promise)


class UnblockSource(Protocol):
    """The source of undelivered ``unblock`` messages."""

    def request_unblocks(self, group: str, pid: str, after: int) -> None:
        """Send a portion of messages for member ``pid``, from after place ``after``, through the hub. Without a
        group, send those for HTTP addresses."""

    def delivered(self, key: UnblockKey) -> None:
        """Forget the message: it was read, or at least nobody will ever know better."""


class _Listener(Struct, eq=False):
    """``place``: it has been given everything up to here, or has it waiting.

    ``behind``: the store may have more. ``asked``: a request to the store is pending. ``missed``: a message came after
    the request. ``needs``: bytes of the message that there was no room for.

    ``overlooks``: a message came while it was behind. If several servers write at once, a later message may have an
    earlier place.
    """

    stream: WorkerStream
    place: int = 0
    behind: bool = True
    asked: bool = False
    missed: bool = False
    overlooks: bool = False
    needs: int = 0


class Unblocks:
    """``find`` returns the open stream for an address, if there is one."""

    def __init__(self, source: UnblockSource, find: Callable[[PollAddress], WorkerStream | None]) -> None:
        self._source = source
        self._find = find
        self._listeners: dict[WorkerStream, _Listener] = {}
        self._short_of_room: dict[_Listener, None] = {}
        """Listeners that are behind, and had no room when last checked."""
        self._handed_over: set[UnblockKey] = set()
        """Messages that wait for a stream, or may not have been read."""
        self._bytes = 0

    def join(self, stream: WorkerStream) -> None:
        listener = self._listeners[stream] = _Listener(stream)
        self._request_more(listener)

    def leave(self, stream: WorkerStream) -> list[UnblockKey]:
        """Remove a stream that has ended. Return the messages that its peer may not have read."""
        listener = self._listeners.pop(stream)
        self._short_of_room.pop(listener, None)
        self._bytes -= stream.unblock_bytes
        lost = stream.undelivered()
        self._handed_over.difference_update(lost)
        self._request_for_waiting()
        return lost

    def send(self, unblock: Unblock, address: PollAddress) -> None:
        """Give the message to a listener that has caught up; else leave it in the store."""
        stream = self._find(address)
        if stream is None or unblock.key in self._handed_over:
            return
        listener, weight = self._listeners[stream], weight_of(unblock)
        if listener.behind:
            listener.missed = listener.overlooks = True
        elif self._has_room(stream, weight):
            self._push(stream, unblock, weight)
        else:
            listener.behind = listener.overlooks = True
            self._wait_for_room(listener, weight)

    def look_for(self, address: PollAddress) -> None:
        """Request what is new for the listener: another server has written a message that this one was not told."""
        if (stream := self._find(address)) is not None:
            listener = self._listeners[stream]
            listener.behind = listener.missed = listener.overlooks = True
            self._request_more(listener)

    def give(self, stream: WorkerStream, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        """Take in requested messages from after place ``after``; ``complete`` if there are no more."""
        listener = self._listeners.get(stream)
        if listener is None or not listener.asked or listener.place != after:
            return
        listener.asked = False
        for each in owed:
            if each.unblock.key not in self._handed_over:
                weight = weight_of(each.unblock)
                if not self._has_room(stream, weight):
                    self._wait_for_room(listener, weight)
                    return
                self._push(stream, each.unblock, weight)
            listener.place = each.place
        listener.behind = not complete or listener.missed
        self._request_more(listener)

    def taken(self, stream: WorkerStream, weight: int) -> None:
        """Free ``weight`` bytes: the stream has taken everything that waited for it."""
        if stream in self._listeners:
            self._bytes -= weight
            self._request_more(self._listeners[stream])
            self._request_for_waiting()

    def confirm(self, stream: WorkerStream) -> None:
        """Report the messages that the peer has surely read."""
        delivered = stream.take_delivered(CONFIRMED_AT_ONCE)
        self._handed_over.difference_update(delivered)
        for key in delivered:
            self._source.delivered(key)

    def ask_again(self, stream: WorkerStream) -> None:
        """Request everything: there may be messages that the stream was not given."""
        listener = self._listeners[stream]
        listener.place, listener.behind, listener.asked, listener.overlooks = 0, True, False, False
        self._request_more(listener)

    def heal(self, stream: WorkerStream) -> None:
        """Request everything once caught up, if a message may have been overlooked."""
        listener = self._listeners[stream]
        if listener.overlooks and not listener.behind:
            self.ask_again(stream)

    def reset(self) -> None:
        self._handed_over.clear()
        self._short_of_room.clear()
        self._bytes = 0
        for stream in self._listeners:
            self._listeners[stream] = _Listener(stream, behind=False)

    def _push(self, stream: WorkerStream, unblock: Unblock, weight: int) -> None:
        self._handed_over.add(unblock.key)
        self._bytes += weight
        stream.queue(unblock, weight)

    def _wait_for_room(self, listener: _Listener, weight: int) -> None:
        listener.needs = weight
        self._short_of_room[listener] = None

    def _has_room(self, stream: WorkerStream, weight: int) -> bool:
        own = stream.unblock_bytes
        if stream.closed or stream.unblocks_waiting >= UNBLOCK_WINDOW:
            return False
        if own + weight <= ASSURED_BYTES:
            return True
        fits_stream = not own or own + weight <= STREAM_BYTES
        fits_all = not self._bytes or self._bytes + weight <= ALL_BYTES
        return fits_stream and fits_all

    def _request_more(self, listener: _Listener) -> None:
        """Request more, once the stream has taken what it had."""
        self._short_of_room.pop(listener, None)
        stream = listener.stream
        if not listener.behind or listener.asked or stream.closed:
            return
        if stream.unblocks_waiting:
            return  # When the stream has taken them, this is called again.
        listener.asked, listener.missed = True, False
        self._source.request_unblocks(stream.group, stream.id, listener.place)

    def _request_for_waiting(self) -> None:
        while self._short_of_room:
            listener = next(iter(self._short_of_room))
            if self._bytes and self._bytes + listener.needs > ALL_BYTES:
                return
            self._request_more(listener)
