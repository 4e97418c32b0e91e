-- A file of format 3 as its server left it: with what that of format 2 holds, a local step, and a promise that an even
-- earlier server let somebody await, though it is internal.
BEGIN TRANSACTION;
CREATE TABLE callbacks (
    awaited TEXT NOT NULL,
    awaiter TEXT NOT NULL,
    PRIMARY KEY (awaited, awaiter)
) WITHOUT ROWID;
INSERT INTO "callbacks" VALUES('part-2','both');
INSERT INTO "callbacks" VALUES('awaited','both');
INSERT INTO "callbacks" VALUES('foo-1:1','foo-1');
INSERT INTO "callbacks" VALUES('foo-1:1.1','foo-1:1');
CREATE TABLE listeners (
    awaited TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (awaited, address)
) WITHOUT ROWID;
INSERT INTO "listeners" VALUES('foo-1','poll://uni@callers/caller-1');
CREATE TABLE params (
    promise INTEGER PRIMARY KEY,
    data    BLOB NOT NULL
);
INSERT INTO "params" VALUES(1,X'7B2268656164657273223A7B2268223A2231227D2C2264617461223A225A6D3976227D');
INSERT INTO "params" VALUES(2,X'7B2264617461223A22596D4679227D');
INSERT INTO "params" VALUES(4,X'7B2264617461223A22596D4636227D');
INSERT INTO "params" VALUES(5,X'7B2264617461223A225A4739755A513D3D227D');
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
INSERT INTO "promises" VALUES(1,'foo-1','pending','{"resonate:origin":"foo-1","resonate:branch":"foo-1","resonate:parent":"foo-1","resonate:target":"poll://any@foo"}',2015360000000,1700000000000,NULL,'foo-1','foo-1','foo-1');
INSERT INTO "promises" VALUES(2,'foo-1:1','pending','{"resonate:origin":"foo-1","resonate:branch":"foo-1:1","resonate:parent":"foo-1","resonate:target":"poll://any@bar"}',2015360000000,1700000000000,NULL,'foo-1:1','foo-1','foo-1');
INSERT INTO "promises" VALUES(3,'foo-1:1.0','resolved','{"resonate:origin":"foo-1","resonate:branch":"foo-1:1","resonate:parent":"foo-1:1"}',2015360000000,1700000000000,1700000000000,'foo-1:1','foo-1:1','foo-1');
INSERT INTO "promises" VALUES(4,'foo-1:1.1','pending','{"resonate:origin":"foo-1","resonate:branch":"foo-1:1.1","resonate:parent":"foo-1:1","resonate:target":"poll://any@baz"}',2015360000000,1700000000000,NULL,'foo-1:1.1','foo-1:1','foo-1');
INSERT INTO "promises" VALUES(5,'done','rejected','{"resonate:external":"true"}',2015360000000,1700000000000,1700000000000,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(6,'timer','pending','{"resonate:timer":"true"}',1700003600000,1700000000000,NULL,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(7,'halted','pending','{"resonate:target":"poll://any@workers"}',1700086400000,1700000000000,NULL,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(8,'both','pending','{"resonate:target":"poll://any@workers"}',1700086400000,1700000000000,NULL,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(9,'part-1','resolved','{"resonate:external":"true"}',1700086400000,1700000000000,1700000000000,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(10,'part-2','pending','{"resonate:external":"true"}',1700086400000,1700000000000,NULL,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(11,'step','pending','{}',1700003600000,1700000000000,NULL,NULL,NULL,NULL);
INSERT INTO "promises" VALUES(12,'awaited','pending','{}',1700003600000,1700000000000,NULL,NULL,NULL,NULL);
CREATE TABLE results (
    promise INTEGER PRIMARY KEY,
    data    BLOB NOT NULL
);
INSERT INTO "results" VALUES(3,X'7B2264617461223A226333526C63413D3D227D');
INSERT INTO "results" VALUES(5,X'7B2264617461223A22626D383D227D');
INSERT INTO "results" VALUES(9,X'7B2264617461223A224D513D3D227D');
CREATE TABLE schedule_params (
    schedule INTEGER PRIMARY KEY,
    data     BLOB NOT NULL
);
INSERT INTO "schedule_params" VALUES(1,X'7B2264617461223A2264476C6A61773D3D227D');
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
INSERT INTO "schedules" VALUES(1,'tick','0 * * * *','tick-{{.timestamp}}',3600000,'{"resonate:target":"poll://any@workers"}',1700000000000,1700002800000,NULL);
CREATE TABLE server (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    run      INTEGER NOT NULL,
    is_open  INTEGER NOT NULL,
    time     INTEGER,
    uptime   INTEGER,
    boot     TEXT,
    room     BLOB
);
INSERT INTO "server" VALUES(1,2,0,NULL,NULL,NULL,NULL);
CREATE TABLE spreading (
    promise_id TEXT PRIMARY KEY,
    after      TEXT NOT NULL,
    turn_at    INTEGER NOT NULL
) WITHOUT ROWID;
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
INSERT INTO "tasks" VALUES('both','poll://any@workers','workers','pending',1,1,NULL,NULL,NULL,1700000030000,1,0,NULL,0);
INSERT INTO "tasks" VALUES('foo-1','poll://any@foo','foo','suspended',1,0,NULL,NULL,NULL,NULL,0,0,NULL,0);
INSERT INTO "tasks" VALUES('foo-1:1','poll://any@bar','bar','suspended',1,0,NULL,NULL,NULL,NULL,0,0,NULL,0);
INSERT INTO "tasks" VALUES('foo-1:1.1','poll://any@baz','baz','pending',0,0,NULL,NULL,NULL,1700000030000,1,0,NULL,0);
INSERT INTO "tasks" VALUES('halted','poll://any@workers','workers','halted',0,0,NULL,NULL,NULL,NULL,0,0,NULL,0);
CREATE TABLE unblocks (
    place      INTEGER PRIMARY KEY AUTOINCREMENT,
    promise_id TEXT NOT NULL,
    address    TEXT NOT NULL,
    recipient  TEXT NOT NULL,
    member     TEXT,
    kept_since INTEGER NOT NULL,
    UNIQUE (promise_id, address)
);
INSERT INTO "unblocks" VALUES(1,'done','poll://uni@callers/caller-1','callers','caller-1',1700000000000);
CREATE INDEX promises_by_deadline ON promises (timeout_at) WHERE state = 'pending';
CREATE INDEX roots_by_settlement ON promises (settled_at, id)
    WHERE settled_at IS NOT NULL AND (origin IS NULL OR origin = id);
CREATE INDEX promises_by_branch ON promises (branch, id) WHERE branch IS NOT NULL;
CREATE INDEX promises_by_parent ON promises (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX promises_by_origin ON promises (origin, id) WHERE origin IS NOT NULL;
CREATE INDEX roots_by_creation ON promises (state, created_at, id) WHERE origin IS NULL OR origin = id;
CREATE INDEX tasks_by_timer ON tasks (timer_at) WHERE timer_at IS NOT NULL;
CREATE INDEX tasks_by_holder ON tasks (pid) WHERE pid IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (recipient, timer_at) WHERE queued = 1;
CREATE INDEX tasks_set_aside ON tasks (recipient, timer_at) WHERE unclaimed > 0 AND state = 'pending' AND queued = 0;
CREATE INDEX spreading_by_turn ON spreading (turn_at);
CREATE INDEX unblocks_by_recipient ON unblocks (recipient, member, place);
CREATE INDEX schedules_by_next_run ON schedules (next_run_at, id);
CREATE INDEX callbacks_by_awaiter ON callbacks (awaiter);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('unblocks',1);
COMMIT;
PRAGMA user_version = 3;
