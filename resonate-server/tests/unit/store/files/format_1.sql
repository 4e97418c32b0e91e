-- A file of format 1 as its server left it: a chain of three of which the last waits for a worker, a message that
-- nobody has taken, a timer, a schedule, a halted task.
BEGIN TRANSACTION;
CREATE TABLE callbacks (
    awaited TEXT NOT NULL,
    awaiter TEXT NOT NULL,
    fired   INTEGER NOT NULL,
    PRIMARY KEY (awaited, awaiter)
) WITHOUT ROWID;
INSERT INTO "callbacks" VALUES('foo-1:1','foo-1',0);
INSERT INTO "callbacks" VALUES('foo-1:1.1','foo-1:1',0);
CREATE TABLE listeners (
    awaited TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (awaited, address)
) WITHOUT ROWID;
INSERT INTO "listeners" VALUES('foo-1','poll://uni@callers/caller-1');
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
INSERT INTO "promises" VALUES('done','rejected',X'7B2264617461223A225A4739755A513D3D227D',X'7B2264617461223A22626D383D227D','{}',2015360000000,1700000000000,1700000000000,NULL,NULL,NULL);
INSERT INTO "promises" VALUES('foo-1','pending',X'7B2268656164657273223A7B2268223A2231227D2C2264617461223A225A6D3976227D',X'7B7D','{"resonate:origin":"foo-1","resonate:branch":"foo-1","resonate:parent":"foo-1","resonate:target":"poll://any@foo"}',2015360000000,1700000000000,NULL,'foo-1','foo-1','foo-1');
INSERT INTO "promises" VALUES('foo-1:1','pending',X'7B2264617461223A22596D4679227D',X'7B7D','{"resonate:origin":"foo-1","resonate:branch":"foo-1:1","resonate:parent":"foo-1","resonate:target":"poll://any@bar"}',2015360000000,1700000000000,NULL,'foo-1:1','foo-1','foo-1');
INSERT INTO "promises" VALUES('foo-1:1.0','resolved',X'7B7D',X'7B2264617461223A226333526C63413D3D227D','{"resonate:origin":"foo-1","resonate:branch":"foo-1:1","resonate:parent":"foo-1:1"}',2015360000000,1700000000000,1700000000000,'foo-1:1','foo-1:1','foo-1');
INSERT INTO "promises" VALUES('foo-1:1.1','pending',X'7B2264617461223A22596D4636227D',X'7B7D','{"resonate:origin":"foo-1","resonate:branch":"foo-1:1.1","resonate:parent":"foo-1:1","resonate:target":"poll://any@baz"}',2015360000000,1700000000000,NULL,'foo-1:1.1','foo-1:1','foo-1');
INSERT INTO "promises" VALUES('halted','pending',X'7B7D',X'7B7D','{"resonate:target":"poll://any@workers"}',1700086400000,1700000000000,NULL,NULL,NULL,NULL);
INSERT INTO "promises" VALUES('timer','pending',X'7B7D',X'7B7D','{"resonate:timer":"true"}',1700003600000,1700000000000,NULL,NULL,NULL,NULL);
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
INSERT INTO "schedules" VALUES('tick','0 * * * *','tick-{{.timestamp}}',3600000,X'7B2264617461223A2264476C6A61773D3D227D','{"resonate:target":"poll://any@workers"}',1700000000000,1700002800000,NULL);
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
    lost_at   INTEGER
) WITHOUT ROWID;
INSERT INTO "tasks" VALUES('foo-1','poll://any@foo','foo','suspended',1,0,NULL,NULL,NULL,NULL,0,0,NULL);
INSERT INTO "tasks" VALUES('foo-1:1','poll://any@bar','bar','suspended',1,0,NULL,NULL,NULL,NULL,0,0,NULL);
INSERT INTO "tasks" VALUES('foo-1:1.1','poll://any@baz','baz','pending',0,0,NULL,NULL,NULL,1700000030000,1,0,NULL);
INSERT INTO "tasks" VALUES('halted','poll://any@workers','workers','halted',0,0,NULL,NULL,NULL,NULL,0,0,NULL);
CREATE TABLE unblocks (
    promise_id TEXT NOT NULL,
    address    TEXT NOT NULL,
    kept_since INTEGER NOT NULL,
    PRIMARY KEY (promise_id, address)
) WITHOUT ROWID;
INSERT INTO "unblocks" VALUES('done','poll://uni@callers/caller-1',1700000000000);
CREATE INDEX promises_by_deadline ON promises (timeout_at) WHERE state = 'pending';
CREATE INDEX roots_by_settlement ON promises (settled_at, id)
    WHERE settled_at IS NOT NULL AND (origin IS NULL OR origin = id);
CREATE INDEX promises_by_branch ON promises (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX promises_by_parent ON promises (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX promises_by_origin ON promises (origin, id) WHERE origin IS NOT NULL;
CREATE INDEX tasks_by_timer ON tasks (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (pid) WHERE pid IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (recipient, timer_at) WHERE queued = 1;
CREATE INDEX callbacks_by_awaiter ON callbacks (awaiter, fired);
CREATE INDEX schedules_by_next_run ON schedules (next_run_at);
CREATE INDEX roots_by_creation ON promises (state, created_at, id) WHERE origin IS NULL OR origin = id
;
COMMIT;
PRAGMA user_version = 1;
