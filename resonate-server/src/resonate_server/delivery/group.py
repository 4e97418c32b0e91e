"""The workers of one group, by their number of unclaimed tasks, and the tasks not yet sent to any worker.

The cost of handling a worker or a task does not depend on how many there are.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import count

from msgspec import Struct

from resonate_server.delivery.worker_stream import WINDOW, WorkerStream
from resonate_server.protocol.messages import Execute

ANYBODY = ""
"""Recipient of tasks that any member of a group may get."""


class _QueuedTask(Struct):
    number: int
    execute: Execute


class WaitingTasks:
    """Tasks in order of arrival, by group and recipient: a member's id, or :data:`ANYBODY`.

    ``counts``: by group. ``characters``: the total length of ids and targets.
    """

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str], OrderedDict[str, _QueuedTask]] = {}
        self._places: dict[str, tuple[str, str]] = {}
        """By task: its group and recipient."""
        self.counts = Counter[str]()
        self.characters = 0
        self._last = count(1)
        self._first = count(0, -1)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._places

    def add(self, execute: Execute, group: str, recipient: str) -> None:
        """Append the task; if it waits already, it keeps its place."""
        queue = self._queues.get((group, recipient))
        earlier = None if queue is None else queue.get(execute.task_id)
        self._put(execute, (group, recipient), next(self._last) if earlier is None else earlier.number)

    def put_back(self, execute: Execute, group: str, recipient: str) -> None:
        """Put the task first: it has waited before."""
        self._put(execute, (group, recipient), next(self._first))
        self._queues[group, recipient].move_to_end(execute.task_id, last=False)

    def _put(self, execute: Execute, place: tuple[str, str], number: int) -> None:
        if execute.task_id not in self._places:
            self.counts[place[0]] += 1
            self.characters += _characters(execute)
        self._places[execute.task_id] = place
        self._queues.setdefault(place, OrderedDict())[execute.task_id] = _QueuedTask(number, execute)

    def get(self, task_id: str) -> Execute | None:
        place = self._places.get(task_id)
        return None if place is None else self._queues[place][task_id].execute

    def discard(self, task_id: str) -> Execute | None:
        place = self._places.pop(task_id, None)
        if place is None:
            return None
        queue = self._queues[place]
        execute = queue.pop(task_id).execute
        if not queue:
            del self._queues[place]
        self.counts[place[0]] -= 1
        if not self.counts[place[0]]:
            del self.counts[place[0]]
        self.characters -= _characters(execute)
        return execute

    def take(self, group: str, member: str) -> Execute | None:
        """Remove and return the longest waiting task that ``member`` may get."""
        queues = [self._queues[place] for place in {(group, member), (group, ANYBODY)} if place in self._queues]
        heads = [next(iter(queue.values())) for queue in queues]
        return self.discard(min(heads, key=lambda head: head.number).execute.task_id) if heads else None

    def drop(self, group: str, recipient: str) -> None:
        """Remove all tasks for that recipient alone."""
        for task_id in list(self._queues.get((group, recipient), ())):
            self.discard(task_id)


def _characters(execute: Execute) -> int:
    return len(execute.task_id) + len(execute.target)


class Group:
    """``more_in_store``: the store may have queued tasks that do not wait here."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[str, WorkerStream] = {}
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

    @property
    def has_room(self) -> bool:
        """Whether some worker can take another task."""
        return self.least_loaded(lambda _: False) is not None

    def least_loaded(self, is_doubtful: Callable[[WorkerStream], bool]) -> WorkerStream | None:
        """Return the least loaded worker with room; a doubtful one only as a last resort."""
        doubtful: WorkerStream | None = None
        for level in self._levels:
            for stream in level:
                if stream.closed:
                    continue
                if not is_doubtful(stream):
                    return stream
                doubtful = doubtful or stream
        return doubtful
