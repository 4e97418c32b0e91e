"""Results on their way to those who listen for them. The store keeps every ``unblock`` until there is no doubt that it
was read; in memory is only what an open stream is about to be given, within a budget of bytes.

A listener that has been given everything is told of what comes directly. One for which there is no room falls behind:
from then on the store is asked for what it is owed, portion by portion, whenever there is room again, until it has
caught up. One that connects begins that way. So memory does not depend on how much is owed, nor on who is absent.

Everything costs the same, however much is owed and however many listen.
"""

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from resonate_server.delivery.worker_stream import UNBLOCK_WINDOW, WorkerStream
from resonate_server.kernel.weight import weight
from resonate_server.protocol.address import PollAddress
from resonate_server.protocol.messages import OwedUnblock, Unblock, UnblockKey

ALL_BYTES = 16 * 1_024 * 1_024
"""Of the ``unblock`` messages that wait for streams to take them. A single larger one is taken nonetheless."""

STREAM_BYTES = 1_024 * 1_024
"""Of those that wait for one stream; also for a single larger one, if it is the only one."""

ASSURED_BYTES = 16 * 1_024
"""So much each stream may have waiting whatever the others have: who does not read must not silence those who do."""

OVERHEAD_BYTES = 1_024
"""Of a message, beside its promise."""

CONFIRMED_AT_ONCE = 5_000
"""Messages beyond doubt that the source is told of in one go: a few milliseconds."""


def weight_of(unblock: Unblock) -> int:
    """About how many bytes of memory it takes."""
    return OVERHEAD_BYTES + weight(unblock.promise)


class UnblockSource(Protocol):
    """Who knows what is owed."""

    def request_unblocks(self, group: str, pid: str, after: int) -> None:
        """Send a portion of what member ``pid`` may get through :meth:`Unblocks.give`, from after a place on."""

    def delivered(self, key: UnblockKey) -> None:
        """It was read, or at least nobody will ever know better."""


class _Listener(Struct, eq=False):
    """``place``: up to there it has been given what it was owed, or has it waiting.

    ``behind``: there may be more. ``asked``: the store has been, and has not answered yet. ``missed``: something came
    since then. ``needs``: bytes of the message that there was no room for.

    ``overlooks``: something came while it was behind. Of what several servers write at once, what has an earlier place
    may be there later.
    """

    stream: WorkerStream
    place: int = 0
    behind: bool = True
    asked: bool = False
    missed: bool = False
    overlooks: bool = False
    needs: int = 0


class Unblocks:
    """``find`` tells the open stream for an address, if there is one."""

    def __init__(self, source: UnblockSource, find: Callable[[PollAddress], WorkerStream | None]) -> None:
        self._source = source
        self._find = find
        self._listeners: dict[WorkerStream, _Listener] = {}
        self._hungry: dict[_Listener, None] = {}
        """Behind, and without room when last looked at."""
        self._handed_over: set[UnblockKey] = set()
        """Waiting for a stream, or in doubt."""
        self._bytes = 0

    def join(self, stream: WorkerStream) -> None:
        listener = self._listeners[stream] = _Listener(stream)
        self._feed(listener)

    def leave(self, stream: WorkerStream) -> list[UnblockKey]:
        """The stream has ended; tells what its peer may not have read, which stays owed."""
        listener = self._listeners.pop(stream)
        self._hungry.pop(listener, None)
        self._bytes -= stream.unblock_bytes
        lost = stream.undelivered()
        self._handed_over.difference_update(lost)
        self._feed_the_hungry()
        return lost

    def send(self, unblock: Unblock, address: PollAddress) -> None:
        """Give it to a listener that is there and has caught up; else the store remembers it."""
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

    def give(self, stream: WorkerStream, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        """What the store has for it from after that place on, as asked for; ``complete`` if that is all."""
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
        self._feed(listener)

    def taken(self, stream: WorkerStream, weight: int) -> None:
        """Its stream has taken all that waited for it."""
        if stream in self._listeners:
            self._bytes -= weight
            self._feed(self._listeners[stream])
            self._feed_the_hungry()

    def confirm(self, stream: WorkerStream) -> None:
        """Report what the peer has read without doubt."""
        delivered = stream.take_delivered(CONFIRMED_AT_ONCE)
        self._handed_over.difference_update(delivered)
        for key in delivered:
            self._source.delivered(key)

    def ask_again(self, stream: WorkerStream) -> None:
        """There may be something owed to it that it was not told of."""
        listener = self._listeners[stream]
        listener.place, listener.behind, listener.asked, listener.overlooks = 0, True, False, False
        self._feed(listener)

    def heal(self, stream: WorkerStream) -> None:
        """It has caught up place by place: ask from the first one on, if something may have been overlooked."""
        listener = self._listeners[stream]
        if listener.overlooks and not listener.behind:
            self.ask_again(stream)

    def reset(self) -> None:
        """Nothing is owed to anybody any more."""
        self._handed_over.clear()
        self._hungry.clear()
        self._bytes = 0
        for stream in self._listeners:
            self._listeners[stream] = _Listener(stream, behind=False)

    def _push(self, stream: WorkerStream, unblock: Unblock, weight: int) -> None:
        self._handed_over.add(unblock.key)
        self._bytes += weight
        stream.queue(unblock, weight)

    def _wait_for_room(self, listener: _Listener, weight: int) -> None:
        listener.needs = weight
        self._hungry[listener] = None

    def _has_room(self, stream: WorkerStream, weight: int) -> bool:
        own = stream.unblock_bytes
        if stream.closed or stream.unblocks_waiting >= UNBLOCK_WINDOW:
            return False
        if own + weight <= ASSURED_BYTES:
            return True
        fits_stream = not own or own + weight <= STREAM_BYTES
        fits_all = not self._bytes or self._bytes + weight <= ALL_BYTES
        return fits_stream and fits_all

    def _feed(self, listener: _Listener) -> None:
        """Ask for more, once most of what it had is taken."""
        self._hungry.pop(listener, None)
        stream = listener.stream
        if not listener.behind or listener.asked or stream.closed:
            return
        if stream.unblocks_waiting:
            return  # Its stream will take them; then it is its turn again.
        listener.asked, listener.missed = True, False
        self._source.request_unblocks(stream.group, stream.id, listener.place)

    def _feed_the_hungry(self) -> None:
        while self._hungry:
            listener = next(iter(self._hungry))
            if self._bytes and self._bytes + listener.needs > ALL_BYTES:
                return
            self._feed(listener)
