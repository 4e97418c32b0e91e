"""The writes of a transaction: the last state of each row, all in one statement."""

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
from resonate_server.protocol.records import Promise
from resonate_server.store import rows
from resonate_server.store.postgres.sql import WRITES, write
from resonate_server.store.rows import Row


class Records(list[dict[str, Any]]):
    """Rows of one table, sent as one parameter: JSON, with bytes in base64."""


class Writing:
    """Rows by key, for each part of the statement; see :data:`.sql.WRITES`."""

    def __init__(self) -> None:
        self._parts: defaultdict[str, dict[Any, Row]] = defaultdict(dict)
        self.linked: set[str] = set()
        """Promises whose awaiters or listeners this transaction has changed."""

    def __bool__(self) -> bool:
        return any(self._parts.values())

    def knows(self, promise_id: str) -> bool:
        """Return whether the row in the database is outdated."""
        return promise_id in self._parts["new_promises"] or promise_id in self._parts["promises"]

    def frees(self, awaiters: Iterable[str]) -> bool:
        """Return whether any of ``awaiters`` waits for nothing any more."""
        return not self._parts["freed"].keys().isdisjoint(awaiters)

    def statement(self) -> tuple[str, dict[str, Records]]:
        """Return it with its parameters. It also records this transaction as the last one of its connection."""
        parts = {name: found for name, found in self._parts.items() if found}
        if "freed" in parts:
            parts.setdefault("callbacks", {})
        return write(tuple(filter(parts.__contains__, WRITES))), {
            name: _records(name, found) for name, found in parts.items()
        }

    def add(
        self, changes: Changes, messages: Iterable[Message | Withdraw], now: int, exists: Callable[[str], bool]
    ) -> None:
        """Add what was decided at ``now`` (ms). ``exists``: whether a promise existed before this transaction."""
        for id, promise in changes.promises.items():
            self._put("promises" if exists(id) else "new_promises", id, _promise_row(promise))
        for id, task in changes.tasks.items():
            self._put("tasks", id, rows.task_row(task))
        for link in changes.links:
            self._link(link)
        for id, schedule in changes.schedules.items():
            if schedule is None:
                self._put("dropped_schedules", id, (id,))
            else:
                self._put("schedules", id, (*rows.schedule_row(schedule), rows.payload_data(schedule.promise_param)))
        for message in messages:
            if isinstance(message, Unblock):
                self._put("unblocks", (message.promise.id, message.address), rows.unblock_row(message, now))

    def _link(self, link: LinkChange) -> None:
        match link:
            case PutCallback(awaited=awaited, awaiter=awaiter):
                self._put_link("callbacks", awaited, (awaited, awaiter))
            case DropCallback(awaited=awaited, awaiter=awaiter):
                self._put_link("dropped_callbacks", awaited, (awaited, awaiter))
            case DropCallbacks(awaiter=awaiter):
                kept = {key: row for key, row in self._parts["callbacks"].items() if row[1] != awaiter}
                self._parts["callbacks"] = kept
                self._put("freed", awaiter, (awaiter,))
            case PutListener(awaited=awaited, address=address):
                self._put_link("listeners", awaited, (awaited, address))
            case DropListener(awaited=awaited, address=address):
                self._put_link("dropped_listeners", awaited, (awaited, address))
            case PutSpreading(spreading=spreading, turn_at=turn_at):
                self._put("spreading", spreading.promise_id, (spreading.promise_id, spreading.after, turn_at))
            case DropSpreading(promise_id=promise_id):
                self._put("dropped_spreading", promise_id, (promise_id,))

    def _put_link(self, part: str, awaited: str, row: Row) -> None:
        self.linked.add(awaited)
        self._put(part, row, row)

    def _put(self, part: str, key: Any, row: Row) -> None:
        self._parts[part][key] = row
        if (opposite := _OPPOSITES.get(part)) is not None:
            self._parts[opposite].pop(key, None)


_NAMES = {part: each.names for part, each in WRITES.items()}
_DROPS = {name.removeprefix("dropped_"): name for name in WRITES if name.startswith("dropped_")}
_OPPOSITES = _DROPS | {drop: name for name, drop in _DROPS.items()}


def _promise_row(promise: Promise) -> Row:
    return (*rows.promise_row(promise), rows.payload_data(promise.param), rows.payload_data(promise.value))


def _records(part: str, found: dict[Any, Row]) -> Records:
    """Sort by key, so that servers that insert the same rows do so in the same order."""
    names = _NAMES[part]
    return Records(dict(zip(names, found[key], strict=True)) for key in sorted(found))
