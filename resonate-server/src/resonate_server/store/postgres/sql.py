"""Every SQL statement of the PostgreSQL store. The rows are those of the kernel's model."""

import re
from functools import cache

from resonate_server.store.shared_sql import (
    COLUMNS,
    PROMISE,
    PROMISE_OF_PAIR,
    QUEUED,
    SET_ASIDE,
    TASK_OF_PAIR,
    WHOLE_PROMISE,
    WHOLE_SCHEDULE,
)

SCHEMA_NAME = "resonate"  # Holds all tables; it is the search path of every connection.
BEGINNING = 0x7265736F6E6174_01  # Lock of a session: the server that holds it starts, while later ones wait.
SCHEMA_LOCK = 0x7265736F6E6174_03  # Lock of a transaction: one server at a time creates or migrates the schema.

CREATE_SCHEMA = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA_NAME};
CREATE TABLE IF NOT EXISTS {SCHEMA_NAME}.schema_version (version integer NOT NULL);
"""
GET_VERSION = f"SELECT max(version) FROM {SCHEMA_NAME}.schema_version"
PUT_VERSION = f"INSERT INTO {SCHEMA_NAME}.schema_version (version) VALUES (%s)"
GET_ENGINE = "SELECT current_setting('server_encoding'), current_setting('server_version_num')::integer"
# The process that answers; the database, unlike all others; the cluster; and its timeline, which a standby has none of
# until it is promoted.
GET_PLACE = """
SELECT pg_backend_pid(), 'PostgreSQL ' || system_identifier || ', database ' || oid, system_identifier,
       CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
FROM pg_control_system(), pg_database WHERE datname = current_database()
"""

STEP_MS = 1_000  # If the database's clock is behind by up to this much, servers wait for it; by more, it was set back.
# In ms since the epoch, by the clock of the database's machine.
TIME = "(extract(epoch from clock_timestamp()) * 1000)::bigint"

# store/shared_sql.py says what the tables mean.
# Ids are ordered by code point, whatever the database's own order is: COLLATE "C".
# Payloads over about 1 KiB are stored apart (TOAST), uncompressed, so that what is looked up or rewritten stays small.
# Free space within pages (fillfactor) keeps the new version of a row near the old one.
VERSION_1 = """
CREATE TABLE promises (
    id         text COLLATE "C" PRIMARY KEY,
    state      text COLLATE "C" NOT NULL,
    tags       text NOT NULL,
    timeout_at bigint NOT NULL,
    created_at bigint NOT NULL,
    settled_at bigint,
    branch     text COLLATE "C",
    parent     text COLLATE "C",
    origin     text COLLATE "C",
    armed      boolean NOT NULL,
    param      bytea,
    value      bytea
) WITH (fillfactor = 80, toast_tuple_target = 1024);
ALTER TABLE promises ALTER COLUMN tags SET STORAGE MAIN;
ALTER TABLE promises ALTER COLUMN param SET STORAGE EXTERNAL;
ALTER TABLE promises ALTER COLUMN value SET STORAGE EXTERNAL;
CREATE INDEX promises_by_deadline ON promises (timeout_at, id) WHERE armed;
CREATE INDEX roots_by_settlement ON promises ((coalesce(settled_at, timeout_at)), id)
    WHERE NOT armed AND (origin IS NULL OR origin = id);
CREATE INDEX promises_by_branch ON promises (md5(branch), id) WHERE branch IS NOT NULL;
CREATE INDEX promises_by_parent ON promises (md5(parent), id) WHERE parent IS NOT NULL;
CREATE INDEX promises_by_origin ON promises (md5(origin), id) WHERE origin IS NOT NULL;
CREATE INDEX roots_by_creation ON promises (created_at, id) WHERE origin IS NULL OR origin = id;

CREATE TABLE tasks (
    id        text COLLATE "C" PRIMARY KEY,
    target    text NOT NULL,
    recipient text COLLATE "C",
    state     text COLLATE "C" NOT NULL,
    version   bigint NOT NULL,
    resumes   bigint NOT NULL,
    ttl       bigint,
    pid       text COLLATE "C",
    claim     text,
    timer_at  bigint,
    queued    boolean NOT NULL,
    releases  bigint NOT NULL,
    lost_at   bigint,
    unclaimed bigint NOT NULL,
    reason    text
) WITH (fillfactor = 50);
CREATE INDEX tasks_by_timer ON tasks (timer_at, id) WHERE timer_at IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (md5(pid), id) WHERE pid IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (md5(recipient), timer_at, id) WHERE queued;
CREATE INDEX tasks_set_aside ON tasks (md5(recipient), timer_at, id)
    WHERE unclaimed > 0 AND state = 'pending' AND NOT queued;

CREATE TABLE callbacks (
    awaited text COLLATE "C" NOT NULL,
    awaiter text COLLATE "C" NOT NULL,
    PRIMARY KEY (awaited, awaiter)
);
CREATE INDEX callbacks_by_awaiter ON callbacks (awaiter, awaited);

-- An address may be longer than an index entry.
CREATE TABLE listeners (
    awaited text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX listeners_once ON listeners (awaited, md5(address));

CREATE TABLE spreading (
    promise_id text COLLATE "C" PRIMARY KEY,
    after      text COLLATE "C" NOT NULL,
    turn_at    bigint NOT NULL
);
CREATE INDEX spreading_by_turn ON spreading (turn_at, promise_id);

CREATE TABLE unblocks (
    place      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    promise_id text COLLATE "C" NOT NULL,
    address    text COLLATE "C" NOT NULL,
    recipient  text COLLATE "C" NOT NULL,
    member     text COLLATE "C",
    kept_since bigint NOT NULL
);
CREATE UNIQUE INDEX unblocks_once ON unblocks (promise_id, md5(address));
CREATE INDEX unblocks_by_recipient ON unblocks (md5(recipient), md5(member), place);

CREATE TABLE schedules (
    id              text COLLATE "C" PRIMARY KEY,
    cron            text NOT NULL,
    promise_id      text NOT NULL,
    promise_timeout bigint NOT NULL,
    promise_tags    text NOT NULL,
    created_at      bigint NOT NULL,
    next_run_at     bigint NOT NULL,
    last_run_at     bigint,
    param           bytea
);
ALTER TABLE schedules ALTER COLUMN param SET STORAGE EXTERNAL;
CREATE INDEX schedules_by_next_run ON schedules (next_run_at, id);

-- One row about the servers. epoch: how many servers have taken over; time: where the clock of the last one
-- stopped, in ms since the epoch.
CREATE TABLE server (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    epoch    bigint NOT NULL DEFAULT 0,
    time     bigint NOT NULL DEFAULT 0
);
INSERT INTO server DEFAULT VALUES;

-- The last transaction that each connection committed, by the server's own number: if a connection breaks during a
-- commit, this shows whether it succeeded.
CREATE TABLE endings (
    connection bigint PRIMARY KEY,
    last       bigint NOT NULL
) WITH (fillfactor = 10);
"""

VERSION_2 = f"""
-- The running servers. backend: the database process that serves the connection on which a server reports, once a
-- second (beat_at, in ms since the epoch). roster: its connected workers, encoded for the other servers; version: how
-- often the roster has changed. None of this outlives the database's own processes.
CREATE UNLOGGED TABLE servers (
    id      bigint PRIMARY KEY,
    backend integer NOT NULL,
    beat_at bigint NOT NULL,
    version bigint NOT NULL,
    roster  bytea NOT NULL
) WITH (fillfactor = 50);
ALTER TABLE endings ADD COLUMN began_at bigint NOT NULL DEFAULT {TIME};
-- Ends a server of the former version, which cannot share the database; the counter of servers is no longer needed.
UPDATE server SET epoch = epoch + 1;
"""

VERSION_3 = "SELECT 'ends servers of the former version, which do not hear what is sent to them alone'"

MIGRATIONS = (VERSION_1, VERSION_2, VERSION_3)
"""The step from each version to the next. A released step never changes."""

# --- servers, and their time ---

TRY_TO_BEGIN = f"SELECT pg_try_advisory_lock({BEGINNING})"
HAS_BEGUN = f"SELECT pg_advisory_unlock({BEGINNING})"
# The latest time that any server had, and none before now.
GET_TIME = f"SELECT greatest(time, {TIME}) FROM server"
# Returns the time now. If the database's clock was set back, that is the latest of any server's, so that they agree.
KEEP_TIME = f"""
UPDATE server SET time = greatest(time, %s) RETURNING CASE WHEN time > {TIME} + {STEP_MS} THEN time ELSE {TIME} END
"""
JOIN = f"""
INSERT INTO servers (id, backend, beat_at, version, roster) VALUES (%s, pg_backend_pid(), {TIME}, %s, %s)
ON CONFLICT (id) DO UPDATE SET
    backend = excluded.backend, beat_at = excluded.beat_at, version = excluded.version, roster = excluded.roster
"""
# Finds no row if another server took this one for dead.
BEAT = f"UPDATE servers SET beat_at = {TIME} WHERE id = %s RETURNING id"
# The connection of a killed server ends with it; its process number may be another's by then. That of a frozen one does
# not, but its beats stop. Rosters come only if their versions are not among the known ones.
OTHERS = """
SELECT id, version, beat_at, NOT EXISTS (
           SELECT FROM pg_stat_activity
           WHERE pid = backend AND application_name = 'resonate-server ' || to_hex(id)),
       CASE WHEN (id, version) NOT IN (SELECT * FROM unnest(%s::bigint[], %s::bigint[])) THEN roster END
FROM servers WHERE id <> %s ORDER BY id
"""
# Of several servers that notice a death, only one gets the roster.
REMOVE = "DELETE FROM servers WHERE id = ANY(%s::bigint[]) RETURNING id, roster"
# Others need the rows it has locked. If it is alive after all, it reconnects.
CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = ANY(%s::text[]) AND usename = current_user AND datname = current_database()
"""
CHANNEL = "resonate_servers"
# Up to 7,999 bytes, sent as such: in texts the driver replaces some characters, which may double their length.
RING = "SELECT pg_notify(%s, convert_from(%s, 'UTF8'))"

BEGIN, COMMIT, ROLLBACK = "BEGIN", "COMMIT", "ROLLBACK"
LOOK = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A server that has committed nothing for a week has no doubt about its last commit, and makes a new row for the next.
FORGET_ENDINGS = f"DELETE FROM endings WHERE began_at < {TIME} - 604800000"
# Ends the process that serves a connection, and with it whatever was sent but not yet done. The name is checked, too,
# because another process may have the same number by now.
END_BACKEND = "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE pid = %s AND application_name = %s"
# Waits for a transaction that continues although its connection broke, even if it is the first.
GET_ENDING = """
INSERT INTO endings (connection, last) VALUES (%s, 0)
ON CONFLICT (connection) DO UPDATE SET last = endings.last RETURNING last
"""

# --- reading rows ---


@cache
def own(query: str) -> str:
    """Return a query of :mod:`.shared_sql` in PostgreSQL's dialect; long texts are found by their hashes."""
    query = re.sub(r"\$(\w+)_size", r"octet_length(\1)", query).replace("$schedule_", "").replace("$", "")
    query = re.sub(r"([:\w.]+) == ([:\w.]+|'')", r"md5(\1) = md5(\2) AND \1 = \2", query)
    return re.sub(r":(\w+)", r"%(\1)s", query)


MAX_READ_ALONG = 2_048  # bytes of a payload that comes with its row; a larger one only does if it is to be shown
MAX_AWAITERS_AHEAD = 200  # that are locked and read together with a promise that is to be settled

_ALONG = f"""
CASE WHEN octet_length({{0}}) <= {MAX_READ_ALONG}
       OR p.id = ANY(%(shown)s::text[]) AND octet_length({{0}}) <= %(most)s THEN {{0}} END, octet_length({{0}})
"""
_PROMISE_ALONG = f"{PROMISE_OF_PAIR}, {_ALONG.format('param')}, {_ALONG.format('value')}"
_WHOLE_PROMISE, _WHOLE_SCHEDULE = own(WHOLE_PROMISE), own(WHOLE_SCHEDULE)

_WANTED = f"""
ANY(%(ids)s::text[] || ARRAY(
    SELECT c.awaiter FROM unnest(%(settles)s::text[]) AS s (id) CROSS JOIN LATERAL (
        SELECT awaiter FROM callbacks WHERE awaited = s.id ORDER BY awaiter LIMIT {MAX_AWAITERS_AHEAD}
    ) AS c))
"""
_LINKS_AHEAD = f"""
CASE WHEN p.id = ANY(%(settles)s::text[]) THEN
    ARRAY(SELECT awaiter FROM callbacks WHERE awaited = p.id ORDER BY awaiter LIMIT {MAX_AWAITERS_AHEAD} + 1) END,
CASE WHEN p.id = ANY(%(settles)s::text[]) THEN
    ARRAY(SELECT address FROM listeners WHERE awaited = p.id ORDER BY address LIMIT {MAX_AWAITERS_AHEAD} + 1) END
"""
# The lock on a promise covers its task and its links, too. Nobody waits for one, so there is no deadlock.
LOCK = f"SELECT id FROM promises WHERE id = {_WANTED} FOR UPDATE SKIP LOCKED"
# A separate statement, so that it sees everything committed before we got the locks.
GET_PAIRS = f"""
SELECT {_PROMISE_ALONG}, {TASK_OF_PAIR}, {_LINKS_AHEAD}
FROM promises AS p LEFT JOIN tasks AS t ON t.id = p.id WHERE p.id = {_WANTED}
"""
GET_WHOLE_PROMISES = f"SELECT {_WHOLE_PROMISE} FROM promises WHERE id = ANY(%s::text[]) ORDER BY id"


def _links(table: str, other: str, condition: str) -> str:
    """Return a query for links of several promises, in their order. The limit is for all together."""
    return f"""
SELECT s.id, l.{other} FROM unnest(%(ids)s::text[], %(after)s::text[]) WITH ORDINALITY AS s (id, after, number)
CROSS JOIN LATERAL (
    SELECT {other} FROM {table} WHERE awaited = s.id AND {condition} ORDER BY {other} LIMIT %(limit)s
) AS l ORDER BY s.number, l.{other} LIMIT %(limit)s
"""


GET_AWAITERS = _links("callbacks", "awaiter", 'awaiter > s.after COLLATE "C"')
GET_LISTENERS = _links("listeners", "address", "true")

# For several tasks: steps of the same execution, and children, which are sent together with the task. A stored branch
# takes precedence over the one that is named.
GET_PRELOAD = f"""
SELECT w.task, {_PROMISE_ALONG}
FROM unnest(%(tasks)s::text[], %(branches)s::text[]) WITH ORDINALITY AS w (task, branch, number)
CROSS JOIN LATERAL (
    SELECT coalesce((SELECT coalesce(branch, '') FROM promises WHERE id = w.task), w.branch) AS branch
) AS own
CROSS JOIN LATERAL (
    (SELECT id FROM promises WHERE md5(branch) = md5(own.branch) AND branch = own.branch AND branch <> ''
     ORDER BY id LIMIT %(limit)s)
    UNION
    (SELECT id FROM promises WHERE md5(parent) = md5(w.task) AND parent = w.task ORDER BY id LIMIT %(limit)s)
) AS related
JOIN promises AS p ON p.id = related.id
WHERE p.id <> w.task ORDER BY w.number, p.id LIMIT %(most_rows)s
"""

LOCK_SCHEDULE = f"SELECT {_WHOLE_SCHEDULE} FROM schedules WHERE id = %s FOR UPDATE NOWAIT"
# Covers a schedule that does not exist yet: of two servers that create it, the second finds it. Before any row lock.
LOCK_SCHEDULE_NAME = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"

# A server that asks at the same time takes what is left. First schedules, then promises, tasks, and settlements.
TAKE_DUE = (
    f"""
SELECT {_WHOLE_SCHEDULE} FROM schedules WHERE next_run_at <= %(now)s AND id <> ALL(%(put_off)s::text[])
ORDER BY next_run_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
""",
    """
SELECT id FROM promises WHERE armed AND timeout_at <= %(now)s AND id <> ALL(%(put_off)s::text[])
ORDER BY timeout_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
""",
    """
SELECT t.id FROM tasks AS t JOIN promises AS p ON p.id = t.id
WHERE t.timer_at IS NOT NULL AND t.timer_at <= %(now)s AND t.id <> ALL(%(put_off)s::text[])
ORDER BY t.timer_at, t.id LIMIT %(limit)s FOR UPDATE OF p SKIP LOCKED
""",
    """
SELECT s.promise_id, s.after FROM spreading AS s JOIN promises AS p ON p.id = s.promise_id
WHERE s.promise_id <> ALL(%(put_off)s::text[])
ORDER BY s.turn_at, s.promise_id LIMIT %(limit)s FOR UPDATE OF p SKIP LOCKED
""",
)
# A spreading settlement is always due.
NEXT_DUE = """
SELECT least(
    (SELECT min(timeout_at) FROM promises WHERE armed AND id <> ALL(%(put_off)s::text[])),
    (SELECT min(timer_at) FROM tasks WHERE timer_at IS NOT NULL AND id <> ALL(%(put_off)s::text[])),
    (SELECT min(next_run_at) FROM schedules WHERE id <> ALL(%(put_off)s::text[])),
    (SELECT min(0) FROM (
        SELECT 1 FROM spreading WHERE promise_id <> ALL(%(put_off)s::text[]) LIMIT 1
    ) AS any_of_them)
)
"""

# --- writing rows ---


def _insert(table: str, then: str) -> str:
    columns = ", ".join(COLUMNS[table])
    return f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {{rows}} {then}"


def _replace(table: str, key: str, *names: str) -> str:
    changed = ", ".join(f"{name} = excluded.{name}" for name in names)
    return _insert(table, f"ON CONFLICT ({key}) DO UPDATE SET {changed}")


def _delete(table: str, same: str) -> str:
    return f"DELETE FROM {table} AS t USING {{rows}} WHERE {same}"


WRITES = {
    "free_callbacks": _delete("callbacks", "t.awaiter = r.awaiter"),
    "drop_callbacks": _delete("callbacks", "t.awaited = r.awaited AND t.awaiter = r.awaiter"),
    "drop_listeners": _delete(
        "listeners", "t.awaited = r.awaited AND md5(t.address) = md5(r.address) AND t.address = r.address"
    ),
    "drop_spreading": _delete("spreading", "t.promise_id = r.promise_id"),
    "drop_schedules": _delete("schedules", "t.id = r.id"),
    # A promise that exists by now is an error: the rule has not seen it.
    "insert_promises": _insert("promises", ""),
    # The other columns of an existing promise never change.
    "update_promises": """
UPDATE promises AS p SET state = r.state, settled_at = r.settled_at, armed = r.armed, value = coalesce(r.value, p.value)
FROM {rows} WHERE p.id = r.id
""",
    "put_tasks": _replace("tasks", "id", *COLUMNS["tasks"][2:-1]),
    "put_callbacks": _insert("callbacks", "ON CONFLICT DO NOTHING"),
    "put_listeners": _insert("listeners", "ON CONFLICT DO NOTHING"),
    "put_spreading": _replace("spreading", "promise_id", "after", "turn_at"),
    "put_schedules": _replace("schedules", "id", "next_run_at", "last_run_at"),
    "put_unblocks": _replace("unblocks", "promise_id, md5(address)", "kept_since"),
}
"""How the parts of a :class:`~resonate_server.store.postgres.writing.Writing` are written."""
PUT_ENDING = """
INSERT INTO endings (connection, last) VALUES (%(server)s, %(number)s)
ON CONFLICT (connection) DO UPDATE SET last = excluded.last, began_at = excluded.began_at
"""


@cache
def write(parts: tuple[str, ...], then: str) -> str:
    """Return one statement with these parts of :data:`WRITES` and ``then``. Each sees the tables as they were before,
    and they run in no order; two may delete the same row.

    Rows are sent as JSON; the columns of their table say how to read them.
    """
    rows = {part: f"json_populate_recordset(NULL::{table_of(part)}, %({part})s) AS r" for part in parts}
    each = ", ".join(f"{part} AS ({WRITES[part].format(rows=rows[part])})" for part in parts)
    return f"WITH {each} {then}" if parts else then


def table_of(part: str) -> str:
    return part.partition("_")[2]


DROP_UNBLOCKS = """
DELETE FROM unblocks USING unnest(%s::text[], %s::text[]) AS told (promise_id, address)
WHERE unblocks.promise_id = told.promise_id AND md5(unblocks.address) = md5(told.address)
"""
DROP_UNBLOCKS_BEFORE = "DELETE FROM unblocks WHERE kept_since < %s"

_OF_ORIGIN = """
md5(origin) = ANY(ARRAY(SELECT md5(id) FROM unnest(%(ids)s::text[]) AS id)) AND origin = ANY(%(ids)s::text[])
"""
_TREES = f"SELECT id FROM promises WHERE {_OF_ORIGIN} UNION SELECT unnest(%(ids)s::text[])"
LOCK_TREES = f"SELECT id FROM promises WHERE id = ANY(ARRAY({_TREES})) FOR UPDATE NOWAIT"
# A child created meanwhile stays.
DROP_PROMISES_OF_TREES = f"""
DELETE FROM promises WHERE id = ANY(ARRAY({_TREES})) AND NOT armed AND coalesce(settled_at, timeout_at) < %(before)s
RETURNING id
"""
# What has one of them as its origin becomes a root, to be deleted later.
DROP_REST_OF_TREES = (
    f"UPDATE promises SET origin = NULL WHERE {_OF_ORIGIN}",
    "DELETE FROM callbacks WHERE awaited = ANY(%(ids)s::text[])",
    "DELETE FROM callbacks WHERE awaiter = ANY(%(ids)s::text[])",
    "DELETE FROM listeners WHERE awaited = ANY(%(ids)s::text[])",
    "DELETE FROM tasks WHERE id = ANY(%(ids)s::text[]) RETURNING 1",
)

# --- for viewers ---

# An internal root whose deadline has passed is still stored as pending.
RECENT_ROOTS = f"""
SELECT {PROMISE}, param, octet_length(value) FROM promises
WHERE (origin IS NULL OR origin = id) AND (created_at, id) < (%(created_at)s, %(id)s COLLATE "C")
  AND (%(state)s::text IS NULL OR state = %(state)s
       OR (%(state)s = 'rejected_timedout' AND state = 'pending' AND NOT armed))
ORDER BY created_at DESC, id DESC
"""
GET_BRANCHES = f"""
SELECT {PROMISE_OF_PAIR}, p.param, p.value,
       ARRAY(SELECT awaited FROM callbacks WHERE awaiter = p.id ORDER BY awaited), {TASK_OF_PAIR}
FROM promises AS p LEFT JOIN tasks AS t ON t.id = p.id WHERE p.id = ANY(%s::text[]) ORDER BY p.id
"""
GROUPS_WITH_WAITING = f"""
SELECT DISTINCT recipient FROM tasks WHERE ({QUEUED} OR ({SET_ASIDE})) AND recipient > '' ORDER BY recipient LIMIT %s
"""

# --- copying a whole state ---

# Others may read, but not write.
LOCK_ALL = f"LOCK TABLE {', '.join(COLUMNS)} IN SHARE ROW EXCLUSIVE MODE"
NO_LIMITS = "SET idle_in_transaction_session_timeout = 0"
# Without it, queries would be planned for empty tables until the next automatic ANALYZE.
LEARN_SIZES = f"ANALYZE {', '.join(COLUMNS)}"


def read_all(table: str) -> str:
    order = " ORDER BY place" if table == "unblocks" else ""
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table}{order}"


def copy_in(table: str) -> str:
    return f"COPY {table} ({', '.join(COLUMNS[table])}) FROM STDIN"
