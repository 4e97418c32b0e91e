"""The rules of ``schedule.*``, and how schedules fire (protocol sections 3.3 and 4.4)."""

from msgspec.structs import replace

from resonate_server.kernel import promises, settlement
from resonate_server.kernel.cron import latest_match, next_match
from resonate_server.kernel.model import Rules
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.answers import Answer, Nothing, ScheduleData
from resonate_server.protocol.errors import Malformed, NotFound
from resonate_server.protocol.records import Schedule
from resonate_server.protocol.requests import (
    LINEAGE,
    MAX_ID_CHARACTERS,
    MAX_INTEGER,
    PromiseCreate,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
)

NEVER = MAX_INTEGER
"""``nextRunAt`` of a schedule whose expression matches no future time, for example because its year has passed."""


def schedule_get(work: Workspace, request: ScheduleGet) -> Answer:
    return _answer(_schedule_or_404(work, request.id))


def schedule_create(work: Workspace, request: ScheduleCreate) -> Answer:
    """Idempotent on the id alone, like ``promise.create``, but always refuse an invalid cron expression."""
    first = next_match(request.cron, work.now)
    schedule = work.schedule(request.id)
    if schedule is None:
        schedule = _new_schedule(work, request, first)
        work.put_schedule(schedule)
    return _answer(schedule)


def _new_schedule(work: Workspace, request: ScheduleCreate, first: int | None) -> Schedule:
    if first is None:
        raise Malformed(f"the cron expression {request.cron!r} matches no future time")
    schedule = Schedule(
        id=request.id,
        cron=request.cron,
        promise_id=request.promise_id,
        promise_timeout=request.promise_timeout,
        promise_param=request.promise_param,
        promise_tags=request.promise_tags,
        created_at=work.now,
        next_run_at=first,
    )
    last = replace(schedule, next_run_at=NEVER)  # has the longest timestamp
    if len(last.next_promise_id) > MAX_ID_CHARACTERS:
        raise Malformed(f"promiseId produces ids of more than {MAX_ID_CHARACTERS} characters")
    _promise_of_run(last, last.next_promise_id)  # Refuse it now: when it is due, there is no caller to tell.
    return schedule


def schedule_delete(work: Workspace, request: ScheduleDelete) -> Answer:
    """Promises that it has created stay."""
    _schedule_or_404(work, request.id)
    work.drop_schedule(request.id)
    return Answer(status=200, data=Nothing())


def fire(work: Workspace, schedule: Schedule) -> None:
    """Run ``schedule`` once, as of the time it was due. Further due runs follow immediately, one by one.

    If a promise with that id exists already, leave it as it is.
    """
    if work.now < schedule.next_run_at:
        return
    run = next_run(schedule, work.now, work.rules)
    id = run.next_promise_id
    settlement.touch(work, [id])
    if work.promise(id) is None:
        request = _promise_of_run(run, id)
        promises.create_task(work, promises.create(work, request, created_at=run.next_run_at))
    following = next_match(run.cron, run.next_run_at)
    work.put_schedule(replace(run, last_run_at=run.next_run_at, next_run_at=following or NEVER))


def next_run(schedule: Schedule, now: int, rules: Rules) -> Schedule:
    """Return ``schedule``, moved ahead to the first missed run to catch up on if more were missed than the limit.

    The server may have been down for a year: making up all missed runs would be a flood, and useless by then.
    """
    following = next_match(schedule.cron, schedule.next_run_at)
    if following is None or now < following:
        return schedule
    first = latest_match(schedule.cron, now, earlier=rules.catch_up_runs - 1)
    if first is None or first <= schedule.next_run_at:
        return schedule
    return replace(schedule, next_run_at=first)


def _promise_of_run(schedule: Schedule, id: str) -> PromiseCreate:
    return PromiseCreate(
        id=id,
        timeout_at=min(schedule.next_run_at + schedule.promise_timeout, MAX_INTEGER),
        param=schedule.promise_param,
        tags={**schedule.promise_tags, **dict.fromkeys(LINEAGE, id), "resonate:schedule": schedule.id},
    )


def _schedule_or_404(work: Workspace, id: str) -> Schedule:
    schedule = work.schedule(id)
    if schedule is None:
        raise NotFound(f"schedule {id} does not exist")
    return schedule


def _answer(schedule: Schedule) -> Answer:
    return Answer(status=200, data=ScheduleData(schedule=schedule))
