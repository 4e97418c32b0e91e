"""Every SQL statement of the SQLite store, in SQLite's dialect. The rows are those of the kernel's model."""

from collections.abc import Collection, Iterable
from functools import cache

from resonate_server.kernel.model import (
    DropCallback,
    DropCallbacks,
    DropListener,
    DropSpreading,
    LinkChange,
    PutCallback,
    PutListener,
    PutSpreading,
)
from resonate_server.store.shared_sql import (
    COLUMNS,
    PAYLOADS,
    PROMISE,
    PROMISE_OF_PAIR,
    QUEUED,
    SET_ASIDE,
    SIZES,
    TASK,
    TASK_OF_PAIR,
    WHOLE_PROMISE,
    WHOLE_SCHEDULE,
)

SCHEMA_VERSION = 4
"""Increment it with every change of the schema, and add a step from the previous version to :mod:`.migrations`."""

OF_A_NEW_FILE = """
-- A request changes a few bytes on each of about seven pages, and the log gets whole pages.
PRAGMA page_size = 2048;
-- Space of deleted rows can be released in portions.
PRAGMA auto_vacuum = INCREMENTAL;
"""
"""To change either in an existing file, all of it would have to be rewritten."""

PRAGMAS = """
-- Readers never block the writer, and a commit is one append to the log.
PRAGMA journal_mode = WAL;
-- Space of deleted rows is reused. The code that keeps the row of sessions.py correct also folds the log back.
PRAGMA wal_autocheckpoint = 0;
-- SQLite syncs the log before folding it, and the file afterwards. Whoever waits for a commit syncs the log.
PRAGMA synchronous = NORMAL;
PRAGMA foreign_keys = OFF;
-- Some builds overwrite deleted content, which costs as much work, and memory in a transaction, as writing it.
PRAGMA secure_delete = OFF;
PRAGMA temp_store = MEMORY;
"""

SCHEMA = f"""
-- store/shared_sql.py explains the tables.
-- Payloads may have megabytes and have tables of their own, so rows that are looked up or rewritten stay small.
CREATE TABLE promises (
    number     INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    state      TEXT NOT NULL,
    tags       TEXT NOT NULL,  -- JSON
    timeout_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    branch     TEXT,
    parent     TEXT,
    origin     TEXT,
    armed      INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX promises_by_deadline ON promises (timeout_at) WHERE armed = 1;
CREATE INDEX roots_by_settlement ON promises (coalesce(settled_at, timeout_at), id)
    WHERE armed = 0 AND (origin IS NULL OR origin = id);
CREATE INDEX promises_by_branch ON promises (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX promises_by_parent ON promises (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX promises_by_origin ON promises (origin, id) WHERE origin IS NOT NULL;
CREATE INDEX roots_by_creation ON promises (state, armed, created_at, id) WHERE origin IS NULL OR origin = id;

-- Params and values of promises.
CREATE TABLE params (
    promise INTEGER PRIMARY KEY,
    data    BLOB NOT NULL
);
CREATE TABLE results (
    promise INTEGER PRIMARY KEY,
    data    BLOB NOT NULL
);

CREATE TABLE tasks (
    id        TEXT PRIMARY KEY,
    target    TEXT NOT NULL,
    recipient TEXT,
    state     TEXT NOT NULL,
    version   INTEGER NOT NULL,
    resumes   INTEGER NOT NULL,
    ttl       INTEGER,
    pid       TEXT,
    claim     TEXT,
    timer_at  INTEGER,
    queued    INTEGER NOT NULL,
    releases  INTEGER NOT NULL,
    lost_at   INTEGER,
    unclaimed INTEGER NOT NULL,
    reason    TEXT
) WITHOUT ROWID;
CREATE INDEX tasks_by_timer ON tasks (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (pid) WHERE pid IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (recipient, timer_at) WHERE queued = 1;
CREATE INDEX tasks_set_aside ON tasks (recipient, timer_at) WHERE unclaimed > 0 AND state = 'pending' AND queued = 0;

CREATE TABLE callbacks (
    awaited TEXT NOT NULL,
    awaiter TEXT NOT NULL,
    PRIMARY KEY (awaited, awaiter)
) WITHOUT ROWID;
CREATE INDEX callbacks_by_awaiter ON callbacks (awaiter);

CREATE TABLE listeners (
    awaited TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (awaited, address)
) WITHOUT ROWID;

CREATE TABLE spreading (
    promise_id TEXT PRIMARY KEY,
    after      TEXT NOT NULL,
    turn_at    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX spreading_by_turn ON spreading (turn_at);

CREATE TABLE unblocks (
    place      INTEGER PRIMARY KEY AUTOINCREMENT,
    promise_id TEXT NOT NULL,
    address    TEXT NOT NULL,
    recipient  TEXT NOT NULL,
    member     TEXT,
    kept_since INTEGER NOT NULL,
    UNIQUE (promise_id, address)
);
CREATE INDEX unblocks_by_recipient ON unblocks (recipient, member, place);

CREATE TABLE schedules (
    number          INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    cron            TEXT NOT NULL,
    promise_id      TEXT NOT NULL,
    promise_timeout INTEGER NOT NULL,
    promise_tags    TEXT NOT NULL,  -- JSON
    created_at      INTEGER NOT NULL,
    next_run_at     INTEGER NOT NULL,
    last_run_at     INTEGER
);
CREATE INDEX schedules_by_next_run ON schedules (next_run_at, id);

-- Params of their promises.
CREATE TABLE schedule_params (
    schedule INTEGER PRIMARY KEY,
    data     BLOB NOT NULL
);

-- One row about the server itself: see sessions.py, and ClockMark in clock.py. run: number of the session. is_open:
-- the file needs its log. room: bytes written to test whether the disk has room.
CREATE TABLE server (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    run      INTEGER NOT NULL,
    is_open  INTEGER NOT NULL,
    time     INTEGER,
    uptime   INTEGER,
    boot     TEXT,
    room     BLOB
);
INSERT INTO server (only_one, run, is_open) VALUES (1, abs(random() / 4), 0);

PRAGMA user_version = {SCHEMA_VERSION};
"""

ALL_COLUMNS = "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"


APART = {
    "promises": {"param": ("params", "promise"), "value": ("results", "promise")},
    "schedules": {"param": ("schedule_params", "schedule")},
}
"""Payloads, by table and column: the table that has them, and its column with the number of the row."""

_IN_SQLITE = {
    "$param_size": "(SELECT length(data) FROM params WHERE promise = number)",
    "$value_size": "(SELECT length(data) FROM results WHERE promise = number)",
    "$param": "(SELECT data FROM params WHERE promise = number)",
    "$value": "(SELECT data FROM results WHERE promise = number)",
    "$schedule_param": "(SELECT data FROM schedule_params WHERE schedule = number)",
    "= true": "= 1",
    "= false": "= 0",
    ' COLLATE "C"': "",
}
"""Partial indexes are used only with these literals. SQLite knows the length of a payload without reading it."""


@cache
def own(query: str) -> str:
    """Return a query of :mod:`.shared_sql` in SQLite's dialect."""
    for common, here in _IN_SQLITE.items():
        query = query.replace(common, here)
    return query


_SIZES, _WHOLE_SCHEDULE = own(SIZES), own(WHOLE_SCHEDULE)

# Every healthy database answers this at once, from its first page.
CHECK = "SELECT count(*) FROM sqlite_schema"

# A promise and its task. Of the payloads only the lengths, which SQLite knows without reading them.
GET_PAIR = f"""
SELECT {PROMISE_OF_PAIR}, {_SIZES}, {TASK_OF_PAIR} FROM promises AS p LEFT JOIN tasks AS t ON t.id = p.id
WHERE p.id = ?
"""
GET_WHOLE_PROMISE = own(f"SELECT {WHOLE_PROMISE} FROM promises WHERE id = ?")
GET_TASK = f"SELECT {TASK} FROM tasks WHERE id = ?"
GET_AWAITERS = "SELECT awaiter FROM callbacks WHERE awaited = ? AND awaiter > ? ORDER BY awaiter LIMIT ?"
GET_AWAITED = "SELECT awaited FROM callbacks WHERE awaiter = ? ORDER BY awaited"
GET_LISTENERS = "SELECT address FROM listeners WHERE awaited = ? ORDER BY address LIMIT ?"

GET_PARAM = "SELECT (SELECT data FROM params WHERE promise = number) FROM promises WHERE id = ?"

# Steps of one execution, and children of one task: these are sent together with it.
GET_RELATED = """
SELECT id FROM (SELECT id FROM promises WHERE branch = :branch ORDER BY id LIMIT :limit)
UNION SELECT id FROM (SELECT id FROM promises WHERE parent = :task ORDER BY id LIMIT :limit)
ORDER BY id
"""

GET_SPREADING = "SELECT promise_id, after FROM spreading ORDER BY turn_at, promise_id LIMIT ?"

DROP_UNBLOCK = "DELETE FROM unblocks WHERE promise_id = ? AND address = ?"
DROP_UNBLOCKS_BEFORE = "DELETE FROM unblocks WHERE kept_since < ?"


def insert(table: str, columns: Collection[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _put(table: str, key: str, *names: str) -> str:
    """Return a statement that inserts a row, or updates these columns of an existing one."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in names)
    columns = [column for column in COLUMNS[table] if column not in PAYLOADS]
    return f"{insert(table, columns)} ON CONFLICT ({key}) DO {f'UPDATE SET {changed}' if names else 'NOTHING'}"


def _put_payload(table: str, column: str) -> str:
    place, owner = APART[table][column]
    return f"INSERT OR REPLACE INTO {place} ({owner}, data) SELECT number, ? FROM {table} WHERE id = ?"


# The other columns of an existing promise, task, or schedule never change.
PUT_PROMISE = _put("promises", "id", "state", "settled_at", "armed")
UPDATE_PROMISE = "UPDATE promises SET state = ?2, settled_at = ?6, armed = ?10 WHERE id = ?1"
PUT_PARAM, PUT_VALUE = _put_payload("promises", "param"), _put_payload("promises", "value")
PUT_TASK = _put("tasks", "id", *COLUMNS["tasks"][2:-1])
PUT_UNBLOCK = _put("unblocks", "promise_id, address", "kept_since")
PUT_SCHEDULE = _put("schedules", "id", "next_run_at", "last_run_at")
PUT_SCHEDULE_PARAM = _put_payload("schedules", "param")
# Before the schedule itself, which tells which param is its own.
DROP_SCHEDULE_PARAM = "DELETE FROM schedule_params WHERE schedule = (SELECT number FROM schedules WHERE id = ?)"
DROP_SCHEDULE = "DELETE FROM schedules WHERE id = ?"
LINKS: dict[type[LinkChange], str] = {
    PutCallback: _put("callbacks", "awaited, awaiter"),
    DropCallback: "DELETE FROM callbacks WHERE awaited = ? AND awaiter = ?",
    DropCallbacks: "DELETE FROM callbacks WHERE awaiter = ?",
    PutListener: _put("listeners", "awaited, address"),
    DropListener: "DELETE FROM listeners WHERE awaited = ? AND address = ?",
    PutSpreading: _put("spreading", "promise_id", "after", "turn_at"),
    DropSpreading: "DELETE FROM spreading WHERE promise_id = ?",
}
"""How each change of a link is written."""

# The literal conditions repeat those of the partial indexes; without them SQLite may not use them.
DUE_PROMISES = "SELECT id FROM promises WHERE armed = 1 AND timeout_at <= ? ORDER BY timeout_at, id LIMIT ?"
DUE_TASKS = "SELECT id FROM tasks WHERE timer_at IS NOT NULL AND timer_at <= ? ORDER BY timer_at, id LIMIT ?"
# A spreading settlement is always due.
NEXT_DUE = """
SELECT min(at) FROM (
    SELECT min(timeout_at) AS at FROM promises WHERE armed = 1
    UNION ALL SELECT min(timer_at) FROM tasks WHERE timer_at IS NOT NULL
    UNION ALL SELECT min(next_run_at) FROM schedules
    UNION ALL SELECT min(0) FROM (SELECT 1 FROM spreading LIMIT 1)
)
"""

_OF_TREE = "SELECT id FROM promises WHERE origin = :root UNION SELECT :root"
# In this order: the promises tell which rows of other tables belong to the tree. What has one of them as its origin
# becomes a root, to be deleted later.
DROP_LINKS_OF_TREE = (
    f"UPDATE promises SET origin = NULL WHERE origin IN ({_OF_TREE}) AND origin <> :root",
    f"DELETE FROM callbacks WHERE awaited IN ({_OF_TREE})",
    f"DELETE FROM callbacks WHERE awaiter IN ({_OF_TREE})",
    f"DELETE FROM listeners WHERE awaited IN ({_OF_TREE})",
)
DROP_TASKS_OF_TREE = f"DELETE FROM tasks WHERE id IN ({_OF_TREE})"
_NUMBERS = "SELECT number FROM promises WHERE origin = :root UNION SELECT number FROM promises WHERE id = :root"
DROP_PROMISES_OF_TREE = (
    f"DELETE FROM params WHERE promise IN ({_NUMBERS})",
    f"DELETE FROM results WHERE promise IN ({_NUMBERS})",
    f"DELETE FROM promises WHERE id IN ({_OF_TREE})",
)

GET_SCHEDULE = f"SELECT {_WHOLE_SCHEDULE} FROM schedules WHERE id = ?"
DUE_SCHEDULES = f"SELECT {_WHOLE_SCHEDULE} FROM schedules WHERE next_run_at <= ? ORDER BY next_run_at, id LIMIT ?"


GET_CLOCK_MARK = "SELECT time, uptime, boot FROM server WHERE time IS NOT NULL"
PUT_CLOCK_MARK = "UPDATE server SET time = ?, uptime = ?, boot = ?, room = NULL"
# Leases are left out, because they start afresh; so are delays, which clients choose.
LATEST_ROW = """
SELECT max(
    (SELECT coalesce(max(max(created_at, coalesce(settled_at, 0))), 0) FROM promises),
    (SELECT coalesce(max(timer_at), 0) FROM tasks
     WHERE state = 'pending' AND (queued = 1 OR unclaimed > 0 OR releases > 0)),
    (SELECT coalesce(max(lost_at), 0) FROM tasks),
    (SELECT coalesce(max(kept_since), 0) FROM unblocks),
    (SELECT coalesce(max(turn_at), 0) FROM spreading),
    (SELECT coalesce(max(max(created_at, coalesce(last_run_at, 0))), 0) FROM schedules)
)
"""
COUNT_PAGES = "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count"
CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
GIVE_BACK = "PRAGMA incremental_vacuum(2000)"

TRY_TO_WRITE = "UPDATE server SET room = zeroblob(65536)"

# Each state scans its part of the index backwards; the caller merges the results.
RECENT_ROOTS = f"""
SELECT {PROMISE}, {_SIZES} FROM promises INDEXED BY roots_by_creation
WHERE state = :state AND armed = :armed AND (origin IS NULL OR origin = id) AND (created_at, id) < (:created_at, :id)
ORDER BY created_at DESC, id DESC
"""
# For operators. Each step skips a whole group, however many tasks it has.
_GROUPS = """
WITH RECURSIVE found (name) AS (
    SELECT min(recipient) FROM tasks WHERE {condition} AND recipient > ''
    UNION ALL
    SELECT (SELECT min(recipient) FROM tasks WHERE {condition} AND recipient > name) FROM found WHERE name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL LIMIT :limit
"""
GROUPS_WITH_QUEUED = own(_GROUPS.format(condition=QUEUED))
GROUPS_WITH_SET_ASIDE = own(_GROUPS.format(condition=SET_ASIDE))
TABLES = (*COLUMNS, *(place for payloads in APART.values() for place, _ in payloads.values()))

# --- copying a whole state ---

_NUMBERED = {"promises": "number", "schedules": "number", "unblocks": "place"}
"""The column that orders the rows, for tables that have one."""


def read_all(table: str, columns: Iterable[str]) -> str:
    """Payloads are cast, because they are texts in files that were migrated from a former format."""
    apart = {
        column: f"(SELECT CAST(data AS BLOB) FROM {place} WHERE {owner} = number)"
        for column, (place, owner) in APART.get(table, {}).items()
    }
    order = f" ORDER BY {_NUMBERED[table]}" if table in _NUMBERED else ""
    return f"SELECT {', '.join(apart.get(each, each) for each in columns)} FROM {table}{order}"
