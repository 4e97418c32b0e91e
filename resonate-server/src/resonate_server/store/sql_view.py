"""The queries that both stores run in the same way."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from resonate_server.kernel.model import PutCallback, PutListener, Spreading, Task
from resonate_server.protocol.messages import OwedUnblock, Unblock
from resonate_server.protocol.records import Promise, TaskState
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch
from resonate_server.store import MAX_COUNTED, Backlog, Holding, Occupation, OpenTask, Snapshot, View, rows, shared_sql
from resonate_server.store.rows import Row


class SqlView(View):
    """``_sql``: the module with the database's own statements."""

    _sql: ModuleType

    @abstractmethod
    def _query(self, statement: str, parameters: Any = ()) -> Iterable[Row]:
        """Return all rows."""

    @abstractmethod
    def _stream(self, statement: str, parameters: Any) -> Iterable[Row]:
        """Yield rows one by one; the caller may stop early."""

    def _ask(self, query: str, **parameters: Any) -> Iterable[Row]:
        """Return all rows that a query in the common dialect finds."""
        return self._query(self._sql.own(query), parameters)

    def _ids(self, statement: str, parameters: Any = ()) -> list[str]:
        return [id for (id,) in self._query(statement, parameters)]

    # --- delivery ---------------------------------------------------------------------------------------------------

    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        promise: Promise | None = None
        query = {"group": group, "member": member, "after": after}
        for place, promise_id, address in self._stream(self._sql.GET_UNBLOCKS, query):
            if promise is None or promise.id != promise_id:
                found = self._query(self._sql.GET_WHOLE_PROMISE, (promise_id,))
                promise = next(map(rows.promise, found), None)
            if promise is not None:
                yield OwedUnblock(place=place, unblock=Unblock(promise=promise, address=address))

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        return [rows.task(row) for row in self._ask(shared_sql.GET_QUEUED, group=group, limit=limit)]

    def set_aside_tasks(self, group: str, limit: int) -> list[str]:
        return [id for (id,) in self._ask(shared_sql.GET_SET_ASIDE, group=group, limit=limit)]

    def held_tasks(self, pid: str) -> list[str]:
        return [id for (id,) in self._ask(shared_sql.GET_HELD, pid=pid)]

    # --- for viewers ------------------------------------------------------------------------------------------------

    def id_ahead(self, search: Search, rows: int) -> str | None:
        query: dict[str, Any] = {"after": self._after(search), "rows": rows}
        match search:
            case PromiseSearch(tags={"resonate:origin": origin}):
                query["origin"], statement = origin, shared_sql.PROMISE_OF_ORIGIN_AHEAD
            case PromiseSearch():
                statement = shared_sql.PROMISE_AHEAD
            case TaskSearch():
                statement = shared_sql.TASK_AHEAD
            case ScheduleSearch():
                statement = shared_sql.SCHEDULE_AHEAD
        return next((id for (id,) in self._ask(statement, **query)), None)

    def _after(self, search: Search) -> str:
        """Return the id after which ``search`` begins."""
        return search.cursor or ""

    def occupation(self) -> Occupation:
        return Occupation(
            queued=dict(self._ask(shared_sql.COUNT_QUEUED, limit=MAX_COUNTED)),
            held=dict(self._ask(shared_sql.COUNT_HELD, limit=MAX_COUNTED)),
        )

    def backlog(self, group: str) -> Backlog:
        [counts] = self._ask(shared_sql.COUNT_WAITING, group=group, limit=MAX_COUNTED)
        return Backlog(*counts)

    def waiting_tasks(self, group: str, limit: int) -> list[OpenTask]:
        both = (shared_sql.WAITING_QUEUED, shared_sql.WAITING_SET_ASIDE)
        return [_open_task(row) for query in both for row in self._ask(query, group=group, limit=limit)]

    def claims(self, after: Holding, limit: int) -> list[tuple[Holding, OpenTask]]:
        found = self._ask(shared_sql.CLAIMS, pid=after[0], id=after[1], limit=limit)
        return [((pid, id), OpenTask(id, *row)) for pid, id, *row in found]

    def count_tasks(self) -> Counter[TaskState]:
        return Counter({TaskState(state): count for state, count in self._query(shared_sql.COUNT_TASKS)})

    def snapshot_bytes(self) -> int:
        [(size,)] = self._query(self._sql.SNAPSHOT_BYTES)
        return int(size)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            promises=[rows.promise(row) for row in self._query(self._sql.ALL_PROMISES)],
            tasks=[rows.task(row) for row in self._query(shared_sql.ALL_TASKS)],
            callbacks=[PutCallback(awaited=one, awaiter=other) for one, other in self._query(shared_sql.ALL_CALLBACKS)],
            listeners=[PutListener(awaited=id, address=each) for id, each in self._query(shared_sql.ALL_LISTENERS)],
            unblocks=[
                Unblock(promise=rows.promise(tuple(promise)), address=address)
                for address, *promise in self._query(self._sql.ALL_UNBLOCKS)
            ],
            spreading=[Spreading(promise_id=id, after=each) for id, each in self._query(shared_sql.ALL_SPREADING)],
        )


def _open_task(row: Row) -> OpenTask:
    """A task that was claimed before has an unknown time of offer. A delayed task is offered after its delay."""
    id, version, group, created_at, tags = row
    delay = int(rows.read_tags(tags).get("resonate:delay", "0"))
    return OpenTask(id, version, group or "", 0 if version else max(created_at, delay))
