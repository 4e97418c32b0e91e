"""File formats of older versions, and the step from each to the next. A step never changes once released."""

COLUMNS = {
    3: {
        "promises": "number id state tags timeout_at created_at settled_at branch parent origin",
        "params": "promise data",
        "results": "promise data",
        "tasks": "id target recipient state version resumes ttl pid claim timer_at queued releases lost_at unclaimed",
        "callbacks": "awaited awaiter",
        "listeners": "awaited address",
        "spreading": "promise_id after turn_at",
        "unblocks": "place promise_id address recipient member kept_since",
        "schedules": "number id cron promise_id promise_timeout promise_tags created_at next_run_at last_run_at",
        "schedule_params": "schedule data",
        "server": "only_one run is_open time uptime boot room",
        "sqlite_sequence": "name seq",
    },
}
"""Tables and columns of each former version; a file with any others is not ours."""

STEPS = {
    3: """
-- Why a task was released.
ALTER TABLE tasks ADD COLUMN reason TEXT;

-- Only promises that can be awaited, or already are, have a deadline that fires.
DROP INDEX promises_by_deadline;
DROP INDEX roots_by_settlement;
DROP INDEX roots_by_creation;
ALTER TABLE promises ADD COLUMN armed INTEGER NOT NULL DEFAULT 0;
UPDATE promises SET armed = 1 WHERE state = 'pending' AND (
    is_external(tags) OR id IN (SELECT awaited FROM callbacks) OR id IN (SELECT awaited FROM listeners)
);
CREATE INDEX promises_by_deadline ON promises (timeout_at) WHERE armed = 1;
CREATE INDEX roots_by_settlement ON promises (coalesce(settled_at, timeout_at), id)
    WHERE armed = 0 AND (origin IS NULL OR origin = id);
CREATE INDEX roots_by_creation ON promises (state, armed, created_at, id) WHERE origin IS NULL OR origin = id;
""",
}
"""For each version, the SQL that migrates a file to the next version."""


def columns_of(version: int) -> set[tuple[str, str]]:
    """Return every column of every table; nothing for a version that never existed."""
    tables = COLUMNS.get(version, {})
    return {(table, column) for table, columns in tables.items() for column in columns.split()}


def script(version: int, wanted: int) -> str:
    """Return the SQL that migrates a file of ``version`` to ``wanted``."""
    steps = "".join(STEPS[each] for each in range(version, wanted))
    return f"{steps} PRAGMA user_version = {wanted};"
