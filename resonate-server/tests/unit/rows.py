"""Shorthands for rows, and a snapshot of everything readable in a store. No assertions in here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import UNSET, UnsetType

from resonate_server.kernel.model import Changes, Footprint, LinkChange, LinkFootprint, Spreading, Task
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, Schedule, TaskState, Value
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, TaskSearch
from resonate_server.store.sqlite import Database

type Row = Promise | Task | Schedule | LinkChange

NOW = 1_700_000_000_000
LATER = NOW + 1_000_000
END_OF_TIME = 2**63 - 1


def promise(
    id: str,
    state: PromiseState = PromiseState.PENDING,
    *,
    param: Value = EMPTY,
    value: Value = EMPTY,
    timeout_at: int = LATER,
    settled_at: int | UnsetType = UNSET,
    tags: dict[str, str] | None = None,
) -> Promise:
    if state is not PromiseState.PENDING and settled_at is UNSET:
        settled_at = NOW
    return Promise(
        id=id,
        state=state,
        param=param,
        value=value,
        tags=tags or {},
        timeout_at=timeout_at,
        created_at=NOW,
        settled_at=settled_at,
    )


def task(
    id: str,
    state: TaskState = TaskState.PENDING,
    *,
    target: str = "poll://any@workers",
    timer_at: int | None = None,
    queued: bool = False,
    pid: str | None = None,
    unclaimed: int = 0,
) -> Task:
    return Task(id=id, target=target, state=state, timer_at=timer_at, queued=queued, pid=pid, unclaimed=unclaimed)


def schedule(id: str, *, next_run_at: int = LATER, tags: dict[str, str] | None = None) -> Schedule:
    return Schedule(
        id=id,
        cron="* * * * *",
        promise_id="{{.id}}.{{.timestamp}}",
        promise_timeout=5,
        promise_param=EMPTY,
        promise_tags=tags or {},
        created_at=NOW,
        next_run_at=next_run_at,
    )


def changes(*rows: Row) -> Changes:
    result = Changes()
    for row in rows:
        match row:
            case Promise():
                result.promises[row.id] = row
            case Task():
                result.tasks[row.id] = row
            case Schedule():
                result.schedules[row.id] = row
            case _:
                result.links.append(row)
    return result


@contextmanager
def transaction(database: Database) -> Iterator[None]:
    """Commit on exit; after an exception, nothing was written."""
    try:
        yield
        if database.flush():
            database.commit()
    except BaseException:
        database.rollback()
        raise


def write(store: Database, *rows: Row) -> None:
    with transaction(store):
        store.write(changes(*rows))


LISTENERS = [("callers", "c1"), ("callers", "pid-1"), ("callers", "other"), ("", "")]


def snapshot(store: Database) -> dict[str, Any]:
    """Return all that can be read from ``store``, unordered where no order is promised. Call within a transaction."""
    promises = list(store.search(PromiseSearch(limit=1_000), NOW))
    ids = [found.id for found in promises]
    rows = store.load(Footprint(ids=tuple(ids), shown=tuple(ids)))
    store.load_links(rows, LinkFootprint(spreading=tuple(map(Spreading, ids))))
    return {
        "promises": promises,
        "tasks": list(store.search(TaskSearch(limit=1_000), NOW)),
        "schedules": list(store.search(ScheduleSearch(limit=1_000), NOW)),
        "loaded promises": rows.promises,
        "loaded tasks": rows.tasks,
        "awaiters": {awaited: links for awaited, links in rows.awaiters.items() if links},
        "listeners": {awaited: sorted(links) for awaited, links in rows.listeners.items() if links},
        "preloads": {id: _by_id(store.load(Footprint(ids=(id,), preload_for=id)).preload) for id in ids},
        "unblocks": {(group, id): list(store.unblocks(group, id, 0)) for group, id in LISTENERS},
        "queued": {group: store.queued_tasks(group, 1_000) for group in ("workers", "others")},
        "held": {pid: sorted(store.held_tasks(pid)) for pid in ("pid-1", "pid-2")},
        "counts": {state: count for state, count in store.count_tasks().items() if count},
        "everything": store.snapshot(),
        "roots": [found.id for found in store.recent_roots(None, None, NOW)],
        "trees": {id: list(store.tree(id, "", NOW)) for id in ids},
        "occupation": store.occupation(),
        "due": store.due(END_OF_TIME, 1_000),
        "next due": store.next_due(),
    }


def _by_id(promises: list[Promise]) -> list[Promise]:
    return sorted(promises, key=lambda found: found.id)
