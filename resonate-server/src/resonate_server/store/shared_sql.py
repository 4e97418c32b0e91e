"""SQL that both stores have in common."""


def _of(alias: str, columns: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in columns.split(", "))


PROMISE = "id, state, tags, timeout_at, created_at, settled_at"
TASK = "id, target, state, version, resumes, ttl, pid, claim, timer_at, queued, releases, lost_at, unclaimed, reason"
SCHEDULE = "id, cron, promise_id, promise_timeout, promise_tags, created_at, next_run_at, last_run_at"
PROMISE_OF_PAIR, TASK_OF_PAIR = _of("p", PROMISE), _of("t", TASK)

GET_ACQUIRED = "SELECT id FROM tasks WHERE pid IS NOT NULL AND state = 'acquired'"
"""Only acquired tasks have a pid; naming it makes the index of holders usable."""

ALL_TASKS = f"SELECT {TASK} FROM tasks ORDER BY id"
ALL_CALLBACKS = "SELECT awaited, awaiter FROM callbacks ORDER BY awaited, awaiter"
ALL_LISTENERS = "SELECT awaited, address FROM listeners ORDER BY awaited, address"
ALL_SPREADING = "SELECT promise_id, after FROM spreading ORDER BY promise_id"
COUNT_TASKS = "SELECT state, count(*) FROM tasks GROUP BY state"


def any_of(table: str) -> str:
    return f"SELECT 1 FROM {table} LIMIT 1"
