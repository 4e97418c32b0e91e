"""The workers of one group, by their number of unclaimed tasks, and the tasks not yet sent to any of them.

The cost of handling a worker or a task does not depend on how many there are, unless very many wait for one full worker
alone: others then look past those, at most :data:`~resonate_server.delivery.hub.MAX_WAITING`.
"""

from collections import OrderedDict
from collections.abc import Callable

from resonate_server.delivery.worker_stream import WINDOW, Offer, WorkerStream


class Group:
    """``more_in_store``: the store may have queued tasks that do not wait here."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[str, WorkerStream] = {}
        self.waiting: OrderedDict[str, Offer] = OrderedDict()
        """Tasks for a worker with room, in order of arrival."""
        self.more_in_store = False
        self.refilling = False
        self._levels: list[dict[WorkerStream, None]] = [{} for _ in range(WINDOW)]
        """Workers with room, by number of unclaimed tasks, then in the order in which they reached it."""
        self._level: dict[WorkerStream, int] = {}

    def join(self, stream: WorkerStream) -> None:
        self.streams[stream.id] = stream
        self.sort_in(stream)

    def leave(self, stream: WorkerStream) -> None:
        del self.streams[stream.id]
        self._sort_out(stream)

    def sort_in(self, stream: WorkerStream) -> None:
        """Move the worker to its level after it was sent or claimed a task."""
        self._sort_out(stream)
        level = len(stream.unclaimed)
        if level < WINDOW:
            self._levels[level][stream] = None
            self._level[stream] = level

    def _sort_out(self, stream: WorkerStream) -> None:
        level = self._level.pop(stream, None)
        if level is not None:
            del self._levels[level][stream]

    def serves(self, offer: Offer) -> bool:
        """Return whether any of these workers may get the task."""
        if offer.address.exact:
            named = self.streams.get(offer.address.id)
            return named is not None and named.may_claim(offer)
        return any(stream.may_claim(offer) for stream in self.streams.values())

    @property
    def has_room(self) -> bool:
        """Whether some worker can take another task."""
        return any(not stream.closed for stream in self._level)

    def least_loaded(self, offer: Offer, is_doubtful: Callable[[WorkerStream], bool]) -> WorkerStream | None:
        """Return the least loaded worker with room for the task; a doubtful one only as a last resort."""
        doubtful: WorkerStream | None = None
        for level in self._levels:
            for stream in level:
                if stream.closed or not stream.may_claim(offer):
                    continue
                if not is_doubtful(stream):
                    return stream
                doubtful = doubtful or stream
        return doubtful
