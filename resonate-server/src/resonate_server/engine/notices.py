"""Reports decisions to operators: metrics and log lines."""

import logging
from datetime import UTC, datetime

from resonate_server.kernel.model import (
    ClaimNotice,
    LeaseLost,
    Notice,
    RunsSkipped,
    ScheduleFired,
    ScheduleWithoutTarget,
    SettlementNotice,
    Task,
)
from resonate_server.metrics import Metrics
from resonate_server.protocol.payload import excerpt, function_name
from resonate_server.protocol.records import Promise

logger = logging.getLogger(__name__)


def tell(notice: Notice, metrics: Metrics) -> None:
    match notice:
        case LeaseLost(task_id=task_id, pid=pid):
            metrics.lease_lost()
            logger.info("lease lost: task %s, held by %s, is offered again", task_id, pid[:8])
        case ClaimNotice(waited_ms=waited_ms, recovery_ms=recovery_ms):
            metrics.claimed(waited_ms, recovery_ms)
        case SettlementNotice(pending_ms=pending_ms):
            metrics.settled(pending_ms)
        case ScheduleFired():
            metrics.schedule_fired()
        case ScheduleWithoutTarget(schedule_id=id):
            logger.warning("schedule %s: without a resonate:target nobody runs its promises", id)
        case RunsSkipped(schedule_id=id, since=since, until=until):
            text = "schedule %s: the runs missed from %s until before %s are skipped"
            logger.warning(text, id, _utc(since), _utc(until))


def tell_of_trouble(task: Task, promise: Promise) -> None:
    """Warn that workers keep leaving the task unclaimed, or giving it back."""
    function = function_name(excerpt(promise.param)) or "unknown"
    logger.warning("task %s for %s, function %s: %s", task.id, task.target, function, task.report().trouble)


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()
