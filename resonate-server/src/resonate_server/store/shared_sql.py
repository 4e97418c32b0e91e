"""What both stores share: the meaning of their tables, which differ only in where payloads are kept, and queries.

Times are in ms since the epoch. Tags and payloads are JSON; an empty payload is not stored.

``promises``: settled_at is null exactly while state is 'pending'. armed: pending and external, so a timer fires at its
    deadline; any other promise counts as settled from its deadline on, whether or not that is stored. branch, parent
    and origin repeat three of the tags, for lookups; if no other promise is named as the parent, it is the task that
    made the call, if any.
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

from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch

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

PAYLOADS = {"param", "value"}
"""Columns with payloads, which come last."""


def _of(alias: str, columns: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in columns.split(", "))


PROMISE, TASK = ", ".join(COLUMNS["promises"][:6]), ", ".join(COLUMNS["tasks"][:-1])
SCHEDULE = ", ".join(COLUMNS["schedules"][:-1])
PROMISE_OF_PAIR, TASK_OF_PAIR = _of("p", PROMISE), _of("t", TASK)

# --- queries in a common dialect --------------------------------------------------------------------------------------
#
# ``own`` of each store's module with statements turns them into its database's own. ``:name`` is a parameter; booleans
# are compared with ``true`` and ``false``; ``==`` compares texts that may be too long for an index; ``$name`` is a
# payload, or its size in bytes.

SIZES = "$param_size, $value_size"
WHOLE_PROMISE = f"{PROMISE}, $param, $value"
WHOLE_SCHEDULE = f"{SCHEDULE}, $schedule_param"

ALL_PROMISES = f"SELECT {WHOLE_PROMISE} FROM promises ORDER BY id"
ALL_TASKS = f"SELECT {TASK} FROM tasks ORDER BY id"
ALL_CALLBACKS = "SELECT awaited, awaiter FROM callbacks ORDER BY awaited, awaiter"
ALL_LISTENERS = "SELECT awaited, address FROM listeners ORDER BY awaited, address"
ALL_SPREADING = "SELECT promise_id, after FROM spreading ORDER BY promise_id"
ALL_UNBLOCKS = f"""
SELECT address, {PROMISE_OF_PAIR}, $param, $value FROM unblocks JOIN promises AS p ON p.id = promise_id
ORDER BY promise_id, address
"""
COUNT_TASKS = "SELECT state, count(*) FROM tasks GROUP BY state"

# Approximately the size of all these rows as JSON.
_PROMISE_BYTES = "300 + 2 * length(id) + length(tags) + coalesce($param_size, 0) + coalesce($value_size, 0)"
SNAPSHOT_BYTES = f"""
SELECT (SELECT coalesce(sum({_PROMISE_BYTES}), 0) FROM promises)
     + (SELECT coalesce(sum(300 + 3 * length(id) + length(target)), 0) FROM tasks)
     + (SELECT coalesce(sum(50 + length(awaited) + length(awaiter)), 0) FROM callbacks)
     + (SELECT coalesce(sum(50 + length(awaited) + length(address)), 0) FROM listeners)
     + (SELECT coalesce(sum({_PROMISE_BYTES} + length(address)), 0) FROM unblocks JOIN promises ON id = promise_id)
"""

QUEUED, SET_ASIDE = "queued = true", "unclaimed > 0 AND state = 'pending' AND queued = false"
_OF_GROUP = "recipient == :group"

GET_HELD = "SELECT id FROM tasks WHERE pid == :pid"
GET_QUEUED = f"SELECT {TASK} FROM tasks WHERE {QUEUED} AND {_OF_GROUP} ORDER BY timer_at, id LIMIT :limit"
GET_SET_ASIDE = f"SELECT id FROM tasks WHERE {SET_ASIDE} AND {_OF_GROUP} ORDER BY timer_at, id LIMIT :limit"

# The root need not name itself as its origin.
TREE = f"""
SELECT id, {SIZES} FROM promises WHERE id = :root AND id > :after AND origin IS NULL
UNION ALL
SELECT id, {SIZES} FROM promises WHERE origin == :root AND id > :after
ORDER BY id
"""

# Two index scans, merged: the caller stops after a few rows.
UNBLOCKS = """
SELECT place, promise_id, address FROM unblocks WHERE recipient == :group AND member == :member AND place > :after
UNION ALL
SELECT place, promise_id, address FROM unblocks
WHERE recipient == :group AND member == '' AND :member <> '' AND place > :after
ORDER BY place
"""

COUNT_QUEUED = f"""
SELECT recipient, count(*) FROM (SELECT recipient FROM tasks WHERE {QUEUED} AND recipient IS NOT NULL LIMIT :limit)
AS seen GROUP BY recipient
"""
COUNT_HELD = "SELECT pid, count(*) FROM (SELECT pid FROM tasks WHERE pid IS NOT NULL LIMIT :limit) AS seen GROUP BY pid"
COUNT_WAITING = f"""
SELECT (SELECT count(*) FROM (SELECT 1 FROM tasks WHERE {QUEUED} AND {_OF_GROUP} LIMIT :limit) AS queued)
     + (SELECT count(*) FROM (SELECT 1 FROM tasks WHERE {SET_ASIDE} AND {_OF_GROUP} LIMIT :limit) AS set_aside),
       (SELECT count(*) FROM (SELECT 1 FROM unblocks WHERE {_OF_GROUP} LIMIT :limit) AS owed)
"""
_WAITING = f"""
SELECT t.id, t.version, t.recipient, p.created_at, p.tags
FROM (SELECT id, version, recipient, timer_at FROM tasks WHERE {{condition}} AND {_OF_GROUP}
      ORDER BY timer_at, id LIMIT :limit) AS t JOIN promises AS p ON p.id = t.id ORDER BY t.timer_at, t.id
"""
WAITING_QUEUED, WAITING_SET_ASIDE = _WAITING.format(condition=QUEUED), _WAITING.format(condition=SET_ASIDE)
CLAIMS = """
SELECT pid, id, version, coalesce(recipient, '') FROM tasks
WHERE pid IS NOT NULL AND (pid, id) > (:pid COLLATE "C", :id COLLATE "C") ORDER BY pid, id LIMIT :limit
"""

_UNFINISHED = "(armed = true OR coalesce(settled_at, timeout_at) >= :before)"
# Roots that settled before a time, and whether their trees may be deleted. A caller that runs again makes its call
# again: the result must still be there, even if the call has a tree of its own.
SETTLED_ROOTS = f"""
SELECT coalesce(settled_at, timeout_at), id,
      NOT EXISTS (SELECT 1 FROM promises WHERE origin == root.id AND {_UNFINISHED})
  AND NOT EXISTS (SELECT 1 FROM promises WHERE id = root.parent AND {_UNFINISHED})
  AND NOT EXISTS (SELECT 1 FROM unblocks WHERE promise_id = root.id)
  AND NOT EXISTS (SELECT 1 FROM promises AS p JOIN unblocks AS u ON u.promise_id = p.id WHERE p.origin == root.id)
  AND NOT EXISTS (SELECT 1 FROM spreading WHERE promise_id = root.id)
  AND NOT EXISTS (SELECT 1 FROM promises AS p JOIN spreading AS s ON s.promise_id = p.id WHERE p.origin == root.id)
FROM promises AS root
WHERE armed = false AND (origin IS NULL OR origin = id) AND coalesce(settled_at, timeout_at) < :before
  AND (coalesce(settled_at, timeout_at), id) > (:settled_at, :id COLLATE "C")
ORDER BY coalesce(settled_at, timeout_at), id LIMIT :limit
"""


def any_of(table: str) -> str:
    return f"SELECT 1 FROM {table} LIMIT 1"


# Armed promises past their deadline have been settled before; any other past its deadline has timed out.
_STATE_NOW = """
:state = CASE WHEN settled_at IS NULL AND armed = false AND timeout_at <= :now THEN 'rejected_timedout' ELSE state END
"""


def scan(search: Search, columns: str, last: str | None = None, *, is_ahead: bool = False) -> str:
    """Return a query for what matches ``search``, but for its tags, up to ``last``. Viewers ask for one tree.

    ``is_ahead``: for the row that many rows after the cursor, whatever its state.
    """
    conditions = ["id > :after"]
    match search:
        case PromiseSearch(state=state, tags=tags):
            table, state_now = "promises", _STATE_NOW
            conditions += ["origin == :origin"] if "resonate:origin" in tags else []
        case TaskSearch(state=state):
            table, state_now = "tasks", ":state = state"
        case ScheduleSearch():
            table, state, state_now = "schedules", None, ""
    conditions += [state_now] if state is not None and not is_ahead else []
    conditions += [] if last is None else ["id <= :last"]
    limit = " LIMIT 1 OFFSET :rows - 1" if is_ahead else ""
    return f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY id{limit}"
