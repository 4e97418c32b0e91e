"""A rule's view of the rows: it collects writes, and reads see earlier writes. No rules here."""

from resonate_server.kernel.model import Changes, Decision, LinkChange, Rows, Rules, Task, Withdraw
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.errors import NotFound
from resonate_server.protocol.messages import Message
from resonate_server.protocol.records import Promise, Schedule


class Workspace:
    """``now`` (ms) is read once per request, so that all its steps agree on the time.

    ``corr_id``: the correlation id of the request; empty for internal work.
    """

    def __init__(self, rows: Rows, now: int, rules: Rules, corr_id: str = "") -> None:
        self.now = now
        self.corr_id = corr_id
        self.rules = rules
        self._rows = rows
        self._changes = Changes()
        self._messages: list[Message | Withdraw] = []

    def promise(self, id: str) -> Promise | None:
        return self._changes.promises.get(id) or self._rows.promises.get(id)

    def task(self, id: str) -> Task | None:
        return self._changes.tasks.get(id) or self._rows.tasks.get(id)

    def promise_or_404(self, id: str) -> Promise:
        promise = self.promise(id)
        if promise is None:
            raise NotFound(f"promise {id} does not exist")
        return promise

    def task_or_404(self, id: str) -> Task:
        task = self.task(id)
        if task is None:
            raise NotFound(f"task {id} does not exist")
        return task

    def awaiters(self, awaited: str) -> list[str]:
        """Return the loaded awaiters, as they were when the request began."""
        return self._rows.awaiters.get(awaited, [])

    def listeners(self, awaited: str) -> list[str]:
        return self._rows.listeners.get(awaited, [])

    def knows_all_links(self, awaited: str) -> bool:
        """Return whether all awaiters and listeners were loaded."""
        return awaited in self._rows.complete

    def preload_candidates(self) -> list[Promise]:
        """Return the loaded candidates and all promises written since, in their current state."""
        merged = {promise.id: promise for promise in self._rows.preload}
        merged.update(self._changes.promises)
        return list(merged.values())

    def schedule(self, id: str) -> Schedule | None:
        return self._rows.schedules.get(id)

    def put_schedule(self, schedule: Schedule) -> None:
        self._changes.schedules[schedule.id] = schedule

    def drop_schedule(self, id: str) -> None:
        self._changes.schedules[id] = None

    def put_promise(self, promise: Promise) -> None:
        self._changes.promises[promise.id] = promise

    def put_caller(self, id: str, caller: str) -> None:
        self._changes.callers[id] = caller

    def put_task(self, task: Task) -> None:
        """Write ``task``, unless it is as before: a commit takes longer than everything else. If it is no longer
        queued, withdraw its outstanding ``execute``."""
        before = self.task(task.id)
        if task == before:
            return
        self._changes.tasks[task.id] = task
        if before is not None and before.queued and not task.queued:
            self._messages.append(Withdraw(task_id=task.id, version=before.version))

    def link(self, change: LinkChange) -> None:
        self._changes.links.append(change)

    def send(self, message: Message) -> None:
        self._messages.append(message)

    @property
    def has_changed(self) -> bool:
        return bool(self._changes)

    def decide(self, answer: Answer) -> Decision:
        return Decision(answer=answer, changes=self._changes, messages=self._messages)
