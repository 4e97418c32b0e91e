"""What a transaction has decided and not yet handed to its database."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from resonate_server.kernel.model import (
    Changes,
    DropCallback,
    DropCallbacks,
    DropListener,
    DropSpreading,
    LinkChange,
    PutCallback,
    PutListener,
    PutSpreading,
    Withdraw,
)
from resonate_server.protocol.messages import Message, Unblock
from resonate_server.store import rows
from resonate_server.store.rows import Row

TABLES = {PutCallback: "callbacks", DropCallback: "callbacks", PutListener: "listeners", DropListener: "listeners"}


class Writing:
    """Rows by key, in parts named after a table and what is done there: first ``free_`` and ``drop_``, then the others,
    because what was dropped may have been put again. Only the last state of a row counts.
    """

    def __init__(self) -> None:
        self.parts: defaultdict[str, dict[Any, Row]] = defaultdict(dict)
        self._callers: dict[str, str] = {}
        self.linked: set[str] = set()
        """Promises whose awaiters or listeners it changes, besides those that it :meth:`frees`."""

    def __bool__(self) -> bool:
        return any(self.parts.values())

    def knows(self, id: str) -> bool:
        """Return whether the database's rows for ``id`` are outdated."""
        parts = self.parts
        return id in parts["insert_promises"] or id in parts["update_promises"] or id in parts["put_tasks"]

    def frees(self, awaiters: Iterable[str]) -> bool:
        """Return whether any of ``awaiters`` waits for nothing any more."""
        return not self.parts["free_callbacks"].keys().isdisjoint(awaiters)

    def add(
        self, changes: Changes, messages: Iterable[Message | Withdraw], now: int, exists: Callable[[str], bool]
    ) -> None:
        """Add what was decided at ``now`` (ms). ``exists``: whether a promise existed before this transaction.

        All rows are built first, so that one that cannot be built fails before anything has changed.
        """
        old = {id for id in changes.promises if exists(id)}
        self._callers.update(changes.callers)
        promises = {
            id: rows.whole_promise_row(promise, self._callers.get(id), with_param=id not in old)
            for id, promise in changes.promises.items()
        }
        tasks = {id: rows.task_row(task) for id, task in changes.tasks.items()}
        for id, promise in promises.items():
            self.parts["update_promises" if id in old else "insert_promises"][id] = promise
        if tasks:
            self.parts["put_tasks"].update(tasks)
        for link in changes.links:
            self._link(link)
        for id, schedule in changes.schedules.items():
            if schedule is None:
                self._drop("schedules", id, (id,))
            else:
                self.parts["put_schedules"][id] = rows.whole_schedule_row(schedule)
        for message in messages:
            if isinstance(message, Unblock):
                self.parts["put_unblocks"][message.promise.id, message.address] = rows.unblock_row(message, now)

    def _link(self, link: LinkChange) -> None:
        row = rows.link_row(link)
        match link:
            case PutCallback() | PutListener():
                self.parts[f"put_{TABLES[type(link)]}"][row] = row
                self.linked.add(link.awaited)
            case DropCallback() | DropListener():
                self._drop(TABLES[type(link)], row, row)
                self.linked.add(link.awaited)
            case DropCallbacks(awaiter=awaiter):
                kept = {key: put for key, put in self.parts["put_callbacks"].items() if put[1] != awaiter}
                self.parts["put_callbacks"] = kept
                self.parts["free_callbacks"][awaiter] = None, awaiter
            case PutSpreading(spreading=spreading):
                self.parts["put_spreading"][spreading.promise_id] = row
            case DropSpreading(promise_id=id):
                self._drop("spreading", id, row)

    def _drop(self, table: str, key: Any, row: Row) -> None:
        self.parts[f"put_{table}"].pop(key, None)
        self.parts[f"drop_{table}"][key] = row
