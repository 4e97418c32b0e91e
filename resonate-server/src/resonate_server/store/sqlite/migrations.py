"""File formats of older versions, and the step from each to the next. A step never changes once released."""

COLUMNS = {
    1: {
        "promises": "id state param value tags timeout_at created_at settled_at branch parent origin",
        "tasks": "id target recipient state version resumes ttl pid claim timer_at queued releases lost_at",
        "callbacks": "awaited awaiter fired",
        "listeners": "awaited address",
        "unblocks": "promise_id address kept_since",
        "schedules": (
            "id cron promise_id promise_timeout promise_param promise_tags created_at next_run_at last_run_at"
        ),
    },
    2: {
        "promises": "number id state tags timeout_at created_at settled_at branch parent origin",
        "params": "promise data",
        "results": "promise data",
        "tasks": "id target recipient state version resumes ttl pid claim timer_at queued releases lost_at unclaimed",
        "callbacks": "awaited awaiter fired",
        "listeners": "awaited address",
        "spreading": "promise_id after turn_at",
        "unblocks": "place promise_id address recipient member kept_since",
        "schedules": "number id cron promise_id promise_timeout promise_tags created_at next_run_at last_run_at",
        "schedule_params": "schedule data",
        "server": "only_one run is_open time uptime boot room",
        "sqlite_sequence": "name seq",
    },
}
COLUMNS[3] = COLUMNS[2] | {"callbacks": "awaited awaiter"}
"""Tables and columns of each former version; a file with any others is not ours."""

STEPS = {
    1: """
-- Payloads move to tables of their own; settlements may be propagated in several transactions. Unblocks can be looked
-- up by recipient; tasks that nobody claims are counted.
DROP INDEX promises_by_deadline;
DROP INDEX roots_by_settlement;
DROP INDEX promises_by_branch;
DROP INDEX promises_by_parent;
DROP INDEX promises_by_origin;
DROP INDEX IF EXISTS roots_by_creation;
DROP INDEX schedules_by_next_run;
DROP INDEX tasks_by_timer;
DROP INDEX tasks_by_holder;
DROP INDEX tasks_queued;
ALTER TABLE promises RENAME TO promises_1;
ALTER TABLE schedules RENAME TO schedules_1;
ALTER TABLE tasks RENAME TO tasks_1;
ALTER TABLE unblocks RENAME TO unblocks_1;

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
    origin     TEXT
);
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
    unclaimed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE unblocks (
    place      INTEGER PRIMARY KEY AUTOINCREMENT,
    promise_id TEXT NOT NULL,
    address    TEXT NOT NULL,
    recipient  TEXT NOT NULL,
    member     TEXT,
    kept_since INTEGER NOT NULL,
    UNIQUE (promise_id, address)
);
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
CREATE TABLE schedule_params (
    schedule INTEGER PRIMARY KEY,
    data     BLOB NOT NULL
);
CREATE TABLE spreading (
    promise_id TEXT PRIMARY KEY,
    after      TEXT NOT NULL,
    turn_at    INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO promises (id, state, tags, timeout_at, created_at, settled_at, branch, parent, origin)
    SELECT id, state, tags, timeout_at, created_at, settled_at, branch, parent, origin FROM promises_1 ORDER BY id;
-- In the order of the old table, so that SQLite neither sorts nor searches payloads.
INSERT INTO params SELECT number, param FROM promises_1 AS old CROSS JOIN promises ON promises.id = old.id
    WHERE length(param) > 2;
INSERT INTO results SELECT number, value FROM promises_1 AS old CROSS JOIN promises ON promises.id = old.id
    WHERE length(value) > 2;
INSERT INTO schedules (id, cron, promise_id, promise_timeout, promise_tags, created_at, next_run_at, last_run_at)
    SELECT id, cron, promise_id, promise_timeout, promise_tags, created_at, next_run_at, last_run_at FROM schedules_1;
INSERT INTO schedule_params
    SELECT number, promise_param FROM schedules_1 AS old CROSS JOIN schedules ON schedules.id = old.id
    WHERE length(promise_param) > 2;
INSERT INTO tasks
    SELECT id, target, recipient, state, version, resumes, ttl, pid, claim, timer_at, queued, releases, lost_at, 0
    FROM tasks_1;
INSERT INTO unblocks (promise_id, address, recipient, member, kept_since)
    SELECT promise_id, address, recipient_of(address), member_of(address), kept_since FROM unblocks_1
    ORDER BY kept_since;
UPDATE tasks SET resumes = 0, releases = 0, lost_at = NULL WHERE state = 'fulfilled';
DROP TABLE promises_1;
DROP TABLE schedules_1;
DROP TABLE tasks_1;
DROP TABLE unblocks_1;

CREATE INDEX promises_by_deadline ON promises (timeout_at) WHERE state = 'pending';
CREATE INDEX roots_by_settlement ON promises (settled_at, id)
    WHERE settled_at IS NOT NULL AND (origin IS NULL OR origin = id);
CREATE INDEX promises_by_branch ON promises (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX promises_by_parent ON promises (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX promises_by_origin ON promises (origin, id) WHERE origin IS NOT NULL;
CREATE INDEX roots_by_creation ON promises (state, created_at, id) WHERE origin IS NULL OR origin = id;
CREATE INDEX schedules_by_next_run ON schedules (next_run_at, id);
CREATE INDEX tasks_by_timer ON tasks (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (pid) WHERE pid IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (recipient, timer_at) WHERE queued = 1;
CREATE INDEX tasks_set_aside ON tasks (recipient, timer_at) WHERE unclaimed > 0 AND state = 'pending' AND queued = 0;
CREATE INDEX unblocks_by_recipient ON unblocks (recipient, member, place);
CREATE INDEX spreading_by_turn ON spreading (turn_at);

CREATE TABLE server (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    run      INTEGER NOT NULL,
    is_open  INTEGER NOT NULL,
    time     INTEGER,
    uptime   INTEGER,
    boot     TEXT,
    room     BLOB
);
INSERT INTO server (only_one, run, is_open) VALUES (1, 0, 0);
""",
    2: """
-- A callback is deleted when its awaiter is notified, instead of being marked until the awaiter's next claim.
DROP INDEX callbacks_by_awaiter;
ALTER TABLE callbacks RENAME TO callbacks_2;
CREATE TABLE callbacks (
    awaited TEXT NOT NULL,
    awaiter TEXT NOT NULL,
    PRIMARY KEY (awaited, awaiter)
) WITHOUT ROWID;
INSERT INTO callbacks SELECT awaited, awaiter FROM callbacks_2 WHERE fired = 0;
DROP TABLE callbacks_2;
CREATE INDEX callbacks_by_awaiter ON callbacks (awaiter);
""",
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
