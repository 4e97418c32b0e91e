"""Every SQL statement of the SQLite store, with its purpose. The dialect is SQLite's; the rows are those of the
kernel's model."""

SCHEMA_VERSION = 2
"""To be raised with every change of the schema: a file of another version is refused instead of misread."""

PRAGMAS = """
-- Readers never block the writer, and a commit is one append to the log.
PRAGMA journal_mode = WAL;
-- Space of deleted rows is reused; the log is folded back once it holds about 16 MiB.
PRAGMA wal_autocheckpoint = 4000;
PRAGMA foreign_keys = OFF;
PRAGMA temp_store = MEMORY;
"""

SCHEMA = f"""
-- A durable promise. settled_at is null exactly while state = 'pending'; all times in ms since the epoch.
-- branch, parent and origin repeat three of the tags so that they can be looked up.
CREATE TABLE promises (
    id         TEXT PRIMARY KEY,
    state      TEXT NOT NULL,
    param      BLOB NOT NULL,  -- JSON
    value      BLOB NOT NULL,  -- JSON
    tags       TEXT NOT NULL,  -- JSON
    timeout_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    settled_at INTEGER,
    branch     TEXT,
    parent     TEXT,
    origin     TEXT
) WITHOUT ROWID;
CREATE INDEX promises_by_deadline ON promises (timeout_at) WHERE state = 'pending';
CREATE INDEX roots_by_settlement ON promises (settled_at, id)
    WHERE settled_at IS NOT NULL AND (origin IS NULL OR origin = id);
CREATE INDEX promises_by_branch ON promises (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX promises_by_parent ON promises (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX promises_by_origin ON promises (origin, id) WHERE origin IS NOT NULL;

-- The task of a promise with a target. timer_at is the retry time of a pending task and the end of an acquired
-- one's lease.
-- queued = 1: an execute is owed to a member of recipient (the group of the target address), so this row is the
-- outbox entry.
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
    unclaimed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tasks_by_timer ON tasks (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (pid) WHERE pid IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (recipient, timer_at) WHERE queued = 1;
CREATE INDEX tasks_set_aside ON tasks (recipient, timer_at) WHERE unclaimed > 0 AND state = 'pending' AND queued = 0;

-- awaiter's task waits for awaited; fired = 1 since awaited settled, until the awaiter's next claim.
CREATE TABLE callbacks (
    awaited TEXT NOT NULL,
    awaiter TEXT NOT NULL,
    fired   INTEGER NOT NULL,
    PRIMARY KEY (awaited, awaiter)
) WITHOUT ROWID;
CREATE INDEX callbacks_by_awaiter ON callbacks (awaiter, fired);

-- address wants an unblock message when awaited settles.
CREATE TABLE listeners (
    awaited TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (awaited, address)
) WITHOUT ROWID;

-- unblock messages that it is not certain that anybody has read. recipient and member: who may get it; recipient is
-- empty for an HTTP address, member is empty for any member of the group, and null for nobody.
-- place orders them, and is never used again.
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

-- A promise to create again and again; next_run_at in ms since the epoch.
CREATE TABLE schedules (
    id              TEXT PRIMARY KEY,
    cron            TEXT NOT NULL,
    promise_id      TEXT NOT NULL,
    promise_timeout INTEGER NOT NULL,
    promise_param   BLOB NOT NULL,  -- JSON
    promise_tags    TEXT NOT NULL,  -- JSON
    created_at      INTEGER NOT NULL,
    next_run_at     INTEGER NOT NULL,
    last_run_at     INTEGER
) WITHOUT ROWID;
CREATE INDEX schedules_by_next_run ON schedules (next_run_at);

PRAGMA user_version = {SCHEMA_VERSION};
"""

# Apart from the schema, so that files that were made without it get it when they are opened.
INDEX_FOR_WATCHING = """
CREATE INDEX IF NOT EXISTS roots_by_creation ON promises (state, created_at, id) WHERE origin IS NULL OR origin = id
"""

COLUMNS = "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"

_PROMISE = "id, state, param, value, tags, timeout_at, created_at, settled_at"
_TASK = "id, target, state, version, resumes, ttl, pid, claim, timer_at, queued, releases, lost_at, unclaimed"

_SCHEDULE = "id, cron, promise_id, promise_timeout, promise_param, promise_tags, created_at, next_run_at, last_run_at"

# Something that every healthy database answers at once, from its first page.
CHECK = "SELECT count(*) FROM sqlite_schema"

GET_PROMISE = f"SELECT {_PROMISE} FROM promises WHERE id = ?"
GET_TASK = f"SELECT {_TASK} FROM tasks WHERE id = ?"
GET_CALLBACKS = "SELECT awaiter, fired FROM callbacks WHERE awaited = ?"
GET_AWAITED = "SELECT awaited FROM callbacks WHERE awaiter = ?"
GET_LISTENERS = "SELECT address FROM listeners WHERE awaited = ?"

# Steps of one execution and children of one task: what is handed out together with it.
GET_BRANCH = "SELECT id FROM promises WHERE branch = ? ORDER BY id LIMIT ?"
GET_CHILDREN = "SELECT id FROM promises WHERE parent = ? ORDER BY id LIMIT ?"

PUT_PROMISE = f"""
INSERT INTO promises ({_PROMISE}, branch, parent, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, value = excluded.value, settled_at = excluded.settled_at
"""

PUT_TASK = f"""
INSERT INTO tasks ({_TASK}, recipient) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state, version = excluded.version, resumes = excluded.resumes, ttl = excluded.ttl,
    pid = excluded.pid, claim = excluded.claim, timer_at = excluded.timer_at, queued = excluded.queued,
    releases = excluded.releases, lost_at = excluded.lost_at, unclaimed = excluded.unclaimed
"""

PUT_CALLBACK = """
INSERT INTO callbacks (awaited, awaiter, fired) VALUES (?, ?, ?)
ON CONFLICT (awaited, awaiter) DO UPDATE SET fired = excluded.fired
"""
DROP_CALLBACKS = "DELETE FROM callbacks WHERE awaiter = ? AND fired >= ?"
PUT_LISTENER = "INSERT OR IGNORE INTO listeners (awaited, address) VALUES (?, ?)"
DROP_LISTENERS = "DELETE FROM listeners WHERE awaited = ?"

PUT_UNBLOCK = """
INSERT INTO unblocks (promise_id, address, recipient, member, kept_since) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (promise_id, address) DO UPDATE SET kept_since = excluded.kept_since
"""
DROP_UNBLOCK = "DELETE FROM unblocks WHERE promise_id = ? AND address = ?"
DROP_UNBLOCKS_BEFORE = "DELETE FROM unblocks WHERE kept_since < ?"
# Two walks along the index, merged: whoever asks stops after a few rows.
GET_UNBLOCKS = """
SELECT place, promise_id, address FROM unblocks WHERE recipient = :group AND member = :member AND place > :after
UNION ALL
SELECT place, promise_id, address FROM unblocks
WHERE recipient = :group AND member = '' AND :member != '' AND place > :after
ORDER BY place
"""

GET_QUEUED = f"SELECT {_TASK} FROM tasks WHERE queued = 1 AND recipient = ? ORDER BY timer_at, id LIMIT ?"

GET_SET_ASIDE = """
SELECT id FROM tasks
WHERE unclaimed > 0 AND state = 'pending' AND queued = 0 AND recipient = ? ORDER BY timer_at, id LIMIT ?
"""

# Only acquired tasks have a pid; naming it lets SQLite use the index of holders.
GET_ACQUIRED = "SELECT id FROM tasks WHERE pid IS NOT NULL AND state = 'acquired'"
GET_HELD = "SELECT id FROM tasks WHERE pid = ?"

# The literal conditions repeat those of the partial indexes; without them SQLite may not use them.
DUE_PROMISES = "SELECT id FROM promises WHERE state = 'pending' AND timeout_at <= ? ORDER BY timeout_at, id LIMIT ?"
DUE_TASKS = "SELECT id FROM tasks WHERE timer_at IS NOT NULL AND timer_at <= ? ORDER BY timer_at, id LIMIT ?"
NEXT_DEADLINE = "SELECT min(timeout_at) FROM promises WHERE state = 'pending'"
NEXT_TIMER = "SELECT min(timer_at) FROM tasks WHERE timer_at IS NOT NULL"

SETTLED_ROOTS = """
SELECT id FROM promises AS root
WHERE settled_at IS NOT NULL AND (origin IS NULL OR origin = id) AND settled_at < :before
  AND NOT EXISTS (SELECT 1 FROM promises WHERE origin = root.id AND (settled_at IS NULL OR settled_at >= :before))
  AND NOT EXISTS (SELECT 1 FROM unblocks WHERE promise_id = root.id)
  AND NOT EXISTS (SELECT 1 FROM promises JOIN unblocks ON promise_id = id WHERE origin = root.id)
ORDER BY settled_at, id LIMIT :limit
"""
_TREE = "SELECT id FROM promises WHERE origin = :root UNION SELECT :root"
# In this order: the promises tell which rows of the other tables belong to the tree.
DROP_LINKS_OF_TREE = (
    f"DELETE FROM callbacks WHERE awaited IN ({_TREE})",
    f"DELETE FROM callbacks WHERE awaiter IN ({_TREE})",
    f"DELETE FROM listeners WHERE awaited IN ({_TREE})",
)
DROP_TASKS_OF_TREE = f"DELETE FROM tasks WHERE id IN ({_TREE})"
DROP_PROMISES_OF_TREE = f"DELETE FROM promises WHERE id IN ({_TREE})"

GET_SCHEDULE = f"SELECT {_SCHEDULE} FROM schedules WHERE id = ?"
PUT_SCHEDULE = f"INSERT OR REPLACE INTO schedules ({_SCHEDULE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_SCHEDULE = "DELETE FROM schedules WHERE id = ?"
DUE_SCHEDULES = f"SELECT {_SCHEDULE} FROM schedules WHERE next_run_at <= ? ORDER BY next_run_at, id LIMIT ?"
NEXT_RUN = "SELECT min(next_run_at) FROM schedules"


SEARCH_PROMISES = f"""
SELECT {_PROMISE} FROM promises
WHERE (:state IS NULL OR state = :state) AND id > :after AND (:tags = '{{}}' OR has_tags(tags, :tags))
ORDER BY id LIMIT :limit
"""
# The same among the promises of one tree, which is what viewers ask for.
SEARCH_PROMISES_OF_ORIGIN = SEARCH_PROMISES.replace("WHERE (:state", "WHERE origin = :origin AND (:state")
SEARCH_TASKS = f"""
SELECT {_TASK} FROM tasks WHERE (:state IS NULL OR state = :state) AND id > :after ORDER BY id LIMIT :limit
"""
SEARCH_SCHEDULES = f"""
SELECT {_SCHEDULE} FROM schedules WHERE id > :after AND (:tags = '{{}}' OR has_tags(promise_tags, :tags)) ORDER BY
id LIMIT :limit
"""

# Each state by itself walks its part of the index backwards; whoever asks merges them.
RECENT_ROOTS = f"""
SELECT {_PROMISE} FROM promises INDEXED BY roots_by_creation
WHERE state = :state AND (origin IS NULL OR origin = id) AND (created_at, id) < (:created_at, :id)
ORDER BY created_at DESC, id DESC
"""
COUNT_PENDING_ROOTS = """
SELECT count(*) FROM (
    SELECT 1 FROM promises INDEXED BY roots_by_creation
    WHERE state = 'pending' AND (origin IS NULL OR origin = id) LIMIT ?
)
"""
# The root need not name itself as its origin.
TREE = f"""
SELECT {_PROMISE} FROM promises WHERE id = :root AND id > :after AND origin IS NULL
UNION ALL
SELECT {_PROMISE} FROM promises WHERE origin = :root AND id > :after
ORDER BY id
"""
AWAITED = "SELECT awaited FROM callbacks WHERE awaiter = ? AND fired = 0 ORDER BY awaited"
COUNT_QUEUED = """
SELECT recipient, count(*) FROM (SELECT recipient FROM tasks WHERE queued = 1 AND recipient IS NOT NULL LIMIT ?)
GROUP BY recipient
"""
COUNT_HELD = "SELECT pid, count(*) FROM (SELECT pid FROM tasks WHERE pid IS NOT NULL LIMIT ?) GROUP BY pid"

ALL_PROMISES = f"SELECT {_PROMISE} FROM promises ORDER BY id"
ALL_TASKS = f"SELECT {_TASK} FROM tasks ORDER BY id"
ALL_CALLBACKS = "SELECT awaited, awaiter, fired FROM callbacks ORDER BY awaited, awaiter"
ALL_LISTENERS = "SELECT awaited, address FROM listeners ORDER BY awaited, address"
ALL_UNBLOCKS = f"""
SELECT address, {_PROMISE} FROM unblocks JOIN promises ON promises.id = unblocks.promise_id ORDER BY promise_id, address
"""
COUNT_TASKS = "SELECT state, count(*) FROM tasks GROUP BY state"
TABLES = ("promises", "tasks", "callbacks", "listeners", "unblocks", "schedules")
