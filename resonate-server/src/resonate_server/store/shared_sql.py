"""What both stores share: the meaning of their tables, which differ only in where payloads are kept, and some SQL.

Times are in ms since the epoch. Tags and payloads are JSON; an empty payload is not stored.

``promises``: settled_at is null exactly while state is 'pending'. armed: pending and external, so a timer fires at its
    deadline; any other promise counts as settled from its deadline on, whether or not that is stored. branch, parent
    and origin repeat three of the tags, for lookups.
``tasks``, one for each promise with a target: timer_at is the retry time of a pending task and the end of the lease of
    an acquired one. queued: an execute is owed to a member of recipient, the group of the target, so the row is the
    outbox entry.
``callbacks``: the task of awaiter waits for awaited and has not yet learned that it settled.
``listeners``: address wants an unblock message when awaited settles.
``spreading``: settlements still being announced: awaiters up to "after" know, and so do listeners that have no row any
    more. turn_at: when some of them were last told.
``unblocks``: messages that may still be unread. recipient and member say who may get one: recipient is empty for an
    HTTP address; member is empty for any member of the group, and null for nobody. place orders them and is not reused.
``schedules``: promises to create repeatedly.
"""

COLUMNS = {
    table: tuple(columns.split())
    for table, columns in {
        "promises": "id state tags timeout_at created_at settled_at branch parent origin armed param value",
        "tasks": "id target state version resumes ttl pid claim timer_at queued releases lost_at unclaimed reason"
        " recipient",
        "callbacks": "awaited awaiter",
        "listeners": "awaited address",
        "spreading": "promise_id after turn_at",
        "unblocks": "promise_id address recipient member kept_since",
        "schedules": "id cron promise_id promise_timeout promise_tags created_at next_run_at last_run_at param",
    }.items()
}
"""Columns of each table, in the order of a row's fields; SQLite keeps the payloads elsewhere."""


def _of(alias: str, columns: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in columns.split(", "))


PROMISE, TASK = ", ".join(COLUMNS["promises"][:6]), ", ".join(COLUMNS["tasks"][:-1])
SCHEDULE = ", ".join(COLUMNS["schedules"][:-1])
PROMISE_OF_PAIR, TASK_OF_PAIR = _of("p", PROMISE), _of("t", TASK)

ALL_TASKS = f"SELECT {TASK} FROM tasks ORDER BY id"
ALL_CALLBACKS = "SELECT awaited, awaiter FROM callbacks ORDER BY awaited, awaiter"
ALL_LISTENERS = "SELECT awaited, address FROM listeners ORDER BY awaited, address"
ALL_SPREADING = "SELECT promise_id, after FROM spreading ORDER BY promise_id"
COUNT_TASKS = "SELECT state, count(*) FROM tasks GROUP BY state"


def any_of(table: str) -> str:
    return f"SELECT 1 FROM {table} LIMIT 1"
