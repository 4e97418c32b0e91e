"""What operators learn of a decision: metrics, and lines in the log. Rules know nothing of it: rows are compared with
those before.
"""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from resonate_server.kernel.model import Task
from resonate_server.metrics import Metrics
from resonate_server.protocol.payload import function_of
from resonate_server.protocol.records import Promise, PromiseState, Schedule, TaskState
from resonate_server.store import Decided

logger = logging.getLogger(__name__)


def report(decided: Decided, lost: Iterable[Task], metrics: Metrics) -> None:
    """Count a decision, and log what is worth a line. ``lost``: its :func:`lost_leases`."""
    rows, changes = decided.rows, decided.decision.changes
    for promise in changes.promises.values():
        if promise.state is not PromiseState.PENDING and promise.id in rows.promises:
            metrics.settled((promise.settled_at or 0) - promise.created_at)
    for task in changes.tasks.values():
        before = rows.tasks.get(task.id)
        if before is None or before.state is not task.state:
            metrics.task_changed(None if before is None else before.state, task.state)
            if task.state is TaskState.ACQUIRED:
                _report_claim(before, changes.promises.get(task.id) or rows.promises[task.id], decided.now, metrics)
    for before in lost:
        metrics.leases_lost.inc()
        logger.info("lease lost: task %s, held by %s, is offered again", before.id, (before.pid or "")[:8])
    if changes.schedules:  # Nothing else creates promises together with a change of a schedule.
        metrics.schedule_promises.inc(len(changes.promises.keys() - rows.promises.keys()))
        for schedule in filter(None, changes.schedules.values()):
            _report_schedule(schedule, next((each for each in rows.due.schedules if each.id == schedule.id), None))


def lost_leases(decided: Decided) -> Iterator[Task]:
    """Yield the tasks whose lease expired or whose holder is gone, as they were before. (A released one was not
    lost.)"""
    for task in decided.decision.changes.tasks.values():
        before = decided.rows.tasks.get(task.id)
        is_taken_back = task.state is TaskState.PENDING and task.lost_at is not None
        if is_taken_back and before is not None and before.state is TaskState.ACQUIRED:
            yield before


def failing_tasks(decided: Decided) -> Iterator[Task]:
    """Yield the tasks that were offered or claimed to no effect, twice as often as when they were last yielded: they
    may loop for years."""
    for task in decided.decision.changes.tasks.values():
        before = decided.rows.tasks.get(task.id)
        has_failed = before and (task.unclaimed > before.unclaimed or task.releases > before.releases)
        failures = max(task.unclaimed, task.releases)
        if has_failed and failures > 1 and failures.bit_count() == 1:
            yield task


def tell_of_trouble(task: Task, promise: Promise) -> None:
    """Warn that workers keep leaving the task unclaimed, or giving it back."""
    function = function_of(promise) or "unknown"
    logger.warning("task %s for %s, function %s: %s", task.id, task.target, function, task.report().trouble)


def _report_claim(before: Task | None, promise: Promise, now: int, metrics: Metrics) -> None:
    is_first = before is None or before.version == 0
    lost_at = None if before is None else before.lost_at
    metrics.claimed(now - promise.created_at if is_first else None, None if lost_at is None else now - lost_at)


def _report_schedule(schedule: Schedule, before: Schedule | None) -> None:
    """``before``: as it was when its run was due; ``None`` for a new one."""
    if before is None:
        if schedule.target is None:
            logger.warning("schedule %s: without a resonate:target nobody runs its promises", schedule.id)
    elif schedule.last_run_at and schedule.last_run_at > before.next_run_at:
        text = "schedule %s: the runs missed from %s until before %s are skipped"
        logger.warning(text, schedule.id, _utc(before.next_run_at), _utc(schedule.last_run_at))


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()
