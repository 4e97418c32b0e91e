"""The moves of the state table, carried out on a task row, with its timer and its ``execute``."""

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.kernel.model import DropCallbacks, Task
from resonate_server.kernel.states import MOVES, Move, TaskEvent
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.errors import Conflict
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import MAX_INTEGER

MIN_UNIQUE_CHARACTERS = 32
MAX_UNIQUE_CHARACTERS = 4_096
"""Limit for correlation ids that are stored with the task."""

MAX_REASON_CHARACTERS = 500
"""Longer reasons of a release are cut."""


class Claim(Struct, frozen=True):
    """A claim by process ``pid``, for a lease of ``ttl`` ms, in the request with correlation id ``id``."""

    pid: str
    ttl: int
    id: str

    @property
    def is_unique(self) -> bool:
        """A UUID in any notation qualifies. Some SDKs use the clock as correlation id, so theirs may repeat."""
        return MIN_UNIQUE_CHARACTERS <= len(self.id) <= MAX_UNIQUE_CHARACTERS


def move_for(event: TaskEvent, task: Task, version: int | None = None) -> Move:
    """Return the table's move. Raises :class:`Conflict` if it refuses or the task is at another ``version``."""
    move = MOVES[event][task.state]
    if move is Move.REFUSE:
        raise Conflict(f"task {task.id} is {task.state}")
    if version is not None and version != task.version:
        raise Conflict(f"task {task.id} is at version {task.version}, not {version}")
    return move


def require(move: Move, event: TaskEvent, task: Task, version: int | None = None) -> None:
    """Check the move of a rule that implements only one. Raises :class:`Conflict` as :func:`move_for` does.

    Raises ``AssertionError`` if the table names another move, so that the table remains authoritative.
    """
    if move_for(event, task, version) is not move:
        raise AssertionError(f"the rule for {event.name} carries out {move.name}, not what the table says")


def acquire(work: Workspace, task: Task, claim: Claim) -> Task:
    """Acquire the task under a lease. Nothing else increments the version."""
    acquired = replace(
        task,
        state=TaskState.ACQUIRED,
        version=task.version + 1,
        resumes=0,
        pid=claim.pid,
        ttl=claim.ttl,
        claim=claim.id if claim.is_unique else None,
        timer_at=later(work, claim.ttl),
        queued=False,
        lost_at=None,
        unclaimed=0,
    )
    work.put_task(acquired)
    return acquired


def is_repeated(task: Task, claim: Claim, version: int) -> bool:
    """Return whether ``claim`` is a retry of the request that acquired the task at ``version``.

    Only a unique correlation id proves that (section 9, item 10). The process alone does not: two copies of one
    ``execute`` in one process would then both win.
    """
    same = task.claim == claim.id and task.pid == claim.pid and task.ttl == claim.ttl
    return task.state is TaskState.ACQUIRED and claim.is_unique and same and task.version == version + 1


def extend(work: Workspace, task: Task, by_ms: int = MAX_INTEGER) -> None:
    """Have the lease last ``by_ms`` longer, at most for the ``ttl`` of the claim from now."""
    work.put_task(replace(task, timer_at=min((task.timer_at or 0) + by_ms, later(work, task.ttl or 0))))


def queue(work: Workspace, task: Task, not_before: int = 0) -> None:
    """Make the task pending and send its ``execute``, now and again after each retry timeout.

    Not before ``not_before`` (ms since the epoch), nor before the promise's own delay (section 4.3). The task of a
    timer is never dispatched: no SDK runs it, and callers await its promise (section 9, item 7).
    """
    promise = work.promise_or_404(task.id)
    waiting = _unheld(task, TaskState.PENDING)
    not_before = max(not_before, promise.delay_until)
    if promise.is_timer:
        work.put_task(waiting)
    elif not_before > work.now:
        work.put_task(replace(waiting, timer_at=not_before))
    else:
        queued = replace(waiting, timer_at=later(work, work.rules.retry_timeout_ms), queued=True)
        work.put_task(queued)
        work.send(queued.execute())


def release(work: Workspace, task: Task, reason: str | None) -> None:
    """Return the task to the queue: at once the first time, with growing backoff on further releases in a row.

    Otherwise a task that no worker can decode, or whose function none knows, would loop as fast as delivery allows.
    """
    if reason is not None and len(reason) > MAX_REASON_CHARACTERS:
        reason = reason[: MAX_REASON_CHARACTERS - 1] + "…"
    rules = work.rules
    pause = growing_pause(rules.release_pause_ms, rules.release_pause_max_ms, task.releases)
    queue(work, replace(task, releases=task.releases + 1, reason=reason), not_before=later(work, pause))


def set_aside(work: Workspace, task: Task) -> None:
    """Take an unclaimed task out of the queue, to free its place at the worker, and retry it with growing backoff."""
    rules, aside = work.rules, replace(task, unclaimed=task.unclaimed + 1)
    pause = growing_pause(rules.unclaimed_pause_ms, rules.unclaimed_pause_max_ms, aside.unclaimed)
    work.put_task(replace(aside, timer_at=later(work, pause), queued=False))


def growing_pause(first: int, longest: int, failures: int) -> int:
    """Return the backoff in ms after this number of ``failures``: 0, ``first``, twice that, ... up to ``longest``."""
    return min(first << min(failures - 1, 30), longest) if failures else 0


def park(work: Workspace, task: Task) -> None:
    """Suspend the task: it has no lease and no timer, and its callbacks wake it."""
    work.put_task(replace(_unheld(task, TaskState.SUSPENDED), resumes=0, releases=0, reason=None))


def forget_resumes(work: Workspace, task: Task) -> None:
    """Keep the task acquired, and reset its resumes, because the caller has now seen them."""
    work.put_task(replace(task, resumes=0, releases=0, reason=None))


def halt(work: Workspace, task: Task) -> None:
    work.put_task(_unheld(task, TaskState.HALTED))


def finish(work: Workspace, task: Task) -> None:
    """Make the task fulfilled, which is final: drop its callbacks and everything about its run."""
    work.link(DropCallbacks(awaiter=task.id))
    work.put_task(Task(id=task.id, target=task.target, state=TaskState.FULFILLED, version=task.version))


def take_back(work: Workspace, task: Task) -> None:
    """End the lease of a lost worker; its writes are refused from then on."""
    queue(work, replace(task, lost_at=work.now))


def later(work: Workspace, ms: int) -> int:
    """Return the time in ``ms``, or the last one that can be stored."""
    return min(work.now + ms, MAX_INTEGER)


def _unheld(task: Task, state: TaskState) -> Task:
    """Return ``task`` in ``state`` with no lease, no timer and no queued ``execute``."""
    return replace(task, state=state, pid=None, ttl=None, claim=None, timer_at=None, queued=False)
