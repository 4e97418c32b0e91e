"""The workers of one group, by their number of unclaimed tasks, and the tasks not yet sent to any of them.

The cost of handling a worker or a task does not depend on how many there are.
"""

from collections import OrderedDict
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


class TaskQueue:
    """Tasks in order of arrival, by recipient: a member's id, or :data:`ANYBODY`."""

    def __init__(self) -> None:
        self._queues: dict[str, OrderedDict[str, _QueuedTask]] = {}
        self._recipients: dict[str, str] = {}
        self._last = count(1)
        self._first = count(0, -1)

    def __len__(self) -> int:
        return len(self._recipients)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._recipients

    def add(self, execute: Execute, recipient: str) -> None:
        """Append the task; if it waits already, it keeps its place."""
        queue = self._queues.setdefault(recipient, OrderedDict())
        earlier = queue.get(execute.task_id)
        queue[execute.task_id] = _QueuedTask(next(self._last) if earlier is None else earlier.number, execute)
        self._recipients[execute.task_id] = recipient

    def put_back(self, execute: Execute, recipient: str) -> None:
        """Put the task first: it has waited before."""
        queue = self._queues.setdefault(recipient, OrderedDict())
        queue[execute.task_id] = _QueuedTask(next(self._first), execute)
        queue.move_to_end(execute.task_id, last=False)
        self._recipients[execute.task_id] = recipient

    def get(self, task_id: str) -> Execute | None:
        recipient = self._recipients.get(task_id)
        return None if recipient is None else self._queues[recipient][task_id].execute

    def discard(self, task_id: str) -> Execute | None:
        recipient = self._recipients.pop(task_id, None)
        if recipient is None:
            return None
        queue = self._queues[recipient]
        execute = queue.pop(task_id).execute
        if not queue:
            del self._queues[recipient]
        return execute

    def take(self, member: str) -> Execute | None:
        """Remove and return the longest waiting task that ``member`` may get."""
        queues = [self._queues[name] for name in {member, ANYBODY} if name in self._queues]
        heads = [next(iter(queue.values())) for queue in queues]
        if not heads:
            return None
        return self.discard(min(heads, key=lambda entry: entry.number).execute.task_id)

    def drop(self, member: str) -> list[Execute]:
        """Remove and return all tasks that only ``member`` may get."""
        queue = self._queues.pop(member, OrderedDict())
        for task_id in queue:
            del self._recipients[task_id]
        return [entry.execute for entry in queue.values()]

    def clear(self) -> list[Execute]:
        everything = [entry.execute for queue in self._queues.values() for entry in queue.values()]
        self._queues.clear()
        self._recipients.clear()
        return everything


class Group:
    """``more_in_store``: the store may have queued tasks that ``waiting`` does not hold."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[str, WorkerStream] = {}
        self.waiting = TaskQueue()
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
