"""The running PostgreSQL store: concurrent requests, connections that break, and several servers on one database."""

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import psycopg
import pytest
from harness.server import FAR
from msgspec.structs import asdict, replace
from unit.driver import promise_create, promise_settle, task_suspend
from unit.store.servers import PATIENCE_S, RULES, Server, Site, acquire, answering, create, until

from resonate_server import kernel
from resonate_server.http.ready import Pulse, report
from resonate_server.kernel.model import Footprint, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import TaskState, Value
from resonate_server.protocol.requests import (
    Action,
    FenceCreate,
    PromiseGet,
    PromiseRegisterListener,
    Request,
    ScheduleCreate,
    ScheduleGet,
    TaskFence,
    TaskFulfill,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
)
from resonate_server.store import Decided
from resonate_server.store.errors import ReadFailed
from resonate_server.store.found import Snapshot
from resonate_server.store.postgres import driver, postgres_store, sql
from resonate_server.store.postgres.driver import Source, Transaction
from resonate_server.store.postgres.inquiries import ENOUGH
from resonate_server.store.postgres.plans import Asked, Found
from resonate_server.store.postgres.postgres_store import LONGEST_PAUSE_S, pause_after
from resonate_server.store.sqlite import IN_MEMORY, Database

IDS = ["t", "t.a", "t.b", "t.a.c"]
LARGE = Value(data="x" * 300_000)
SCHEDULE = ScheduleCreate(id="a", cron="0 0 1 1 *", promise_id="p", promise_timeout=1)
UNINDEXABLE = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=4_000)))
"""An id too long for PostgreSQL's indexes, and hardly compressible."""


def fulfill(id: str, version: int) -> TaskFulfill:
    return TaskFulfill(id=id, version=version, action=Action(data=promise_settle(id, result=Value(data="x"))))


# --- many at once ---------------------------------------------------------------------------------------------------


def anything(rng: random.Random) -> Request:
    """Return a random request on few ids, so that requests conflict, in every order of the ids."""
    (id, other), version = rng.sample(IDS, 2), rng.randrange(4)
    make: list[Callable[[], Request]] = [
        lambda: create(id),
        lambda: PromiseGet(id=id),
        lambda: acquire(id, version, rng.choice(["pid-1", "pid-2"])),
        lambda: acquire(id, version),
        lambda: task_suspend(id, version, *rng.sample([each for each in IDS if each != id], 2)),
        lambda: task_suspend(id, version, other),
        lambda: fulfill(id, version),
        lambda: TaskFence(id=id, version=version, action=FenceCreate(data=create(other))),
        lambda: PromiseRegisterListener(awaited=id, address="poll://any@callers"),
        lambda: TaskHeartbeat(pid="pid-1", tasks=[TaskRef(id=each, version=version) for each in rng.sample(IDS, 3)]),
        lambda: promise_settle(id) if rng.random() < 0.3 else PromiseGet(id=other),
    ]
    return rng.choice(make)()


def shown(answer: Answer) -> Any:
    """Return the answer without the preload, which is optional and only a cache for the client."""
    data = msgspec.to_builtins(answer.data)
    if isinstance(data, dict):
        data.pop("preload", None)
    return answer.status, data


def in_turn(told: list[Decided]) -> tuple[list[Any], Snapshot]:
    """Run the same requests one by one, at the same times, on SQLite; return the answers and the final state."""
    database = Database(IN_MEMORY)
    answers = []
    for decided in told:
        assert decided.request is not None
        footprint, rule = answering(decided.request)
        again = database.decide(footprint, rule, decided.now)
        database.flush()
        database.commit()
        answers.append(shown(again.decision.answer))
    return answers, database.snapshot()


def without_order(snapshot: Snapshot) -> Any:
    everything = asdict(snapshot)
    everything["unblocks"] = sorted(snapshot.unblocks, key=lambda unblock: unblock.promise.id)
    return everything


@pytest.mark.parametrize("seed", [8, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(20, 40))])
async def test_concurrent_requests_are_equivalent_to_the_reported_order(server: Server, seed: int) -> None:
    async def client(number: int) -> list[int]:
        rng = random.Random(f"{seed} {number}")
        return [(await server.call(anything(rng))).status for _ in range(40)]

    statuses = [status for each in await asyncio.gather(*map(client, range(8))) for status in each]
    left = await server.everything()

    told = server.told.requests
    assert len(told) == len(statuses) == 8 * 40
    assert not {500, 503}.intersection(statuses)
    answers, expected = in_turn(told)
    assert [shown(decided.decision.answer) for decided in told] == answers
    assert without_order(left) == without_order(expected)


# --- round trips ----------------------------------------------------------------------------------------------------


class RoundTrips:
    """What is sent to the database in transactions."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asked, ...]] = []
        self._ask = driver.ask

    async def ask(self, connection: driver.ServingConnection, *asked: Asked) -> Found:
        self.asked.append(asked)
        return await self._ask(connection, *asked)

    def without(self, statement: str) -> list[tuple[Asked, ...]]:
        return [asked for asked in self.asked if statement not in (each for each, _ in asked)]


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> RoundTrips:
    made = RoundTrips()
    monkeypatch.setattr(driver, "ask", made.ask)
    return made


async def test_a_write_takes_two_round_trips_and_a_read_takes_one(server: Server, round_trips: RoundTrips) -> None:
    """Even if a task awaits what is settled; locking in the order of ids is no reason to start over."""
    requests = [
        create("parent"),
        acquire("parent", 0),
        TaskFence(id="parent", version=1, action=FenceCreate(data=create("parent.child"))),
        task_suspend("parent", 1, "parent.child"),
        acquire("parent.child", 0),
        fulfill("parent.child", 1),
        acquire("parent", 1),
        fulfill("parent", 2),
    ]
    for request in requests:
        round_trips.asked.clear()
        answer = await server.call(request)
        assert (answer.status, len(round_trips.without(sql.NEXT_DUE))) == (200, 2), request

    round_trips.asked.clear()
    assert (await server.call(PromiseGet(id="parent"))).status == 200
    assert len(round_trips.without(sql.ROLLBACK)) == 1  # Nothing waits for the rollback.


# --- together -------------------------------------------------------------------------------------------------------


async def test_queued_requests_share_two_round_trips_and_each_sees_the_changes_of_those_before_it(
    server: Server, round_trips: RoundTrips
) -> None:
    server.told.shared.clear()
    answers = await server.at_once(
        create("parent"),
        acquire("parent", 0),
        TaskFence(id="parent", version=1, action=FenceCreate(data=create("parent.child"))),
        acquire("parent.child", 0),
        task_suspend("parent", 1, "parent.child"),
        PromiseGet(id="parent.child"),
    )

    assert [answer.status for answer in answers] == [200] * 6
    assert server.told.shared == [6]
    assert len(round_trips.without(sql.NEXT_DUE)) == 2


async def test_a_request_that_needs_links_changed_by_earlier_ones_follows_them(server: Server) -> None:
    await server.at_once(create("a"), create("b"), acquire("a", 0), acquire("b", 0))
    answers = await server.at_once(task_suspend("a", 1, "b"), fulfill("b", 1))

    assert [answer.status for answer in answers] == [200, 200]
    assert (await server.call(acquire("a", 1))).status == 200  # It was woken.


async def test_a_request_that_the_database_refuses_fails_no_other_and_leaves_nothing_behind(server: Server) -> None:
    """No prepared statement, nor a commit under way: the server would not be ready, and get no other request."""

    async def prepared() -> int:
        assert server.connection is not None
        cursor = await server.connection.execute("SELECT count(*) FROM pg_prepared_statements", prepare=False)
        return int((await cursor.fetchall())[0][0])

    counts = []
    for number in range(3):
        answers = await server.at_once(create(f"a{number}"), create(UNINDEXABLE), create(f"b{number}"))
        assert [answer.status for answer in answers] == [200, 400, 200]
        assert "longer than PostgreSQL can index" in answers[1].data
        counts.append(await prepared())
    assert counts == counts[:1] * 3

    assert (await server.call(promise_create(UNINDEXABLE))).status == 400
    assert server.store.last_commit is not None
    assert not server.store.last_commit.is_under_way


async def test_a_request_whose_rule_fails_fails_no_other(server: Server) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    answers = await server.at_once(create("a"), (Footprint(ids=("a",)), Rule(fail)), create("b"))

    assert [answer.status for answer in answers] == [200, 500, 200]


@pytest.mark.parametrize(("table", "request_"), [("promises", acquire("a", 0)), ("schedules", ScheduleGet(id="a"))])
async def test_a_request_for_a_locked_row_waits_alone(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch, table: str, request_: Request
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    await server.at_once(create("a"), create("b"), SCHEDULE)
    async with await Source(site.url).connect_async() as other, other.transaction():
        await other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await other.execute(f"SELECT 1 FROM {table} WHERE id = 'a' FOR UPDATE".encode())
        waits = server.store.decide(*answering(request_))
        assert (await server.call(acquire("b", 0))).status == 200
        assert (await server.call(PromiseGet(id="b"))).status == 200
        assert not waits.done()
    async with asyncio.timeout(PATIENCE_S):
        assert (await waits).status == 200


async def test_a_large_answer_is_read_separately_from_the_others(server: Server) -> None:
    await server.at_once(create("large", LARGE), create("small"))
    large, small = await server.at_once(PromiseGet(id="large"), PromiseGet(id="small"))
    alone = await server.call(PromiseGet(id="large"))

    assert large.data.promise.param == alone.data.promise.param == LARGE
    assert (small.status, small.weight) == (200, 0)


# --- connections that break -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after", "long after the last one"])
async def test_a_connection_that_breaks_at_a_commit_does_no_harm(
    server: Server, site: Site, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Whether or not the commit succeeded, the request takes effect once and is reported once."""
    await server.at_once(create("t"), acquire("t", 0))
    if when == "long after the last one":
        await site.execute("UPDATE endings SET began_at = 0")
        assert (await (await site.server()).call(create("of another server"))).status == 200
    commit = Transaction.commit
    broken: list[Transaction] = []

    async def breaking(self: Transaction, *asked: Any) -> Found:
        if broken:
            return await commit(self, *asked)
        broken.append(self)
        if when != "before":
            await commit(self, *asked)
        await self._connection.close()
        raise psycopg.OperationalError("the connection broke")

    monkeypatch.setattr(Transaction, "commit", breaking)
    monkeypatch.setattr(postgres_store, "FORGET_S", PATIENCE_S)
    server.told.requests.clear()
    answer = await server.call(TaskRelease(id="t", version=1))

    assert broken
    assert answer.status == 200
    assert len(server.told.requests) == 1
    assert [task.state for task in (await server.everything()).tasks if task.id == "t"] == [TaskState.PENDING]


# --- several servers ------------------------------------------------------------------------------------------------


async def test_servers_that_create_the_same_concurrently_all_return_one(site: Site) -> None:
    servers = [await site.server() for _ in range(3)]
    for tree in range(5):
        answers = await asyncio.gather(
            *[
                server.call(create(f"{tree}.{number}", Value(data=str(by))))
                for number in range(20)
                for by, server in enumerate(servers)
            ]
        )
        assert {answer.status for answer in answers} == {200}
        made = {answer.data.promise.id: answer.data.promise.param.data for answer in answers}
        assert all(made[answer.data.promise.id] == answer.data.promise.param.data for answer in answers)
        schedules = [replace(SCHEDULE, id=f"s{tree}", promise_tags={"by": str(by)}) for by in range(3)]
        answers = await asyncio.gather(*map(Server.call, servers, schedules))
        assert len({answer.data.schedule.promise_tags["by"] for answer in answers}) == 1


async def test_among_other_servers_the_work_after_a_shared_transaction_waits_for_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "FORGET_S", PATIENCE_S)
    monkeypatch.setattr(postgres_store, "pause_after", lambda *_: PATIENCE_S)
    server, _ = await site.connected(2)
    server.told.shared.clear()

    await server.at_once(create("a"), create("b"))
    early = asyncio.ensure_future(server.call(create("early")))
    await asyncio.sleep(0.1)
    assert not early.done()
    await server.at_once(*[create(f"p{number}") for number in range(ENOUGH - 1)])
    await early

    assert server.told.shared == [2, ENOUGH]


@pytest.mark.parametrize(("took", "others", "pause"), [(0.01, 1, 0.01), (0.01, 2, 0.02), (5, 2, LONGEST_PAUSE_S)])
def test_the_pause_after_a_shared_transaction_leaves_each_other_server_its_time(
    took: float, others: int, pause: float
) -> None:
    assert pause_after(took, others) == pause


async def test_a_request_for_a_contended_row_is_not_starved(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    *crowd, lonely = [await site.server() for _ in range(3)]
    assert (await lonely.call(create("hot"))).status == 200

    async def want(server: Server) -> None:
        for number in count():
            listener = f"poll://uni@callers/{id(server)}-{number}"
            await server.call(PromiseRegisterListener(awaited="hot", address=listener))

    wanting = [asyncio.create_task(want(server)) for server in crowd for _ in range(4)]
    answers = [await lonely.call(PromiseGet(id="hot")) for _ in range(20)]
    for task in wanting:
        task.cancel()

    assert {answer.status for answer in answers} == {200}


async def test_due_rows_locked_by_another_server_are_left_to_it(site: Site, server: Server) -> None:
    """Together with everything that depends on it; the rest is done."""
    now = server.store.now()
    await server.at_once(*[replace(create(id), timeout_at=now + 60_000) for id in ("a", "b")])
    due = kernel.due(RULES, at=now + 120_000)

    async def is_some_done() -> bool:
        [answer] = await server.at_once(due)
        return bool(answer.data)

    async with await Source(site.url).connect_async() as other, other.transaction():
        await other.execute("SELECT 1 FROM promises WHERE id = 'a' FOR UPDATE")
        assert await is_some_done()
        assert not await is_some_done()
        states = await site.execute("SELECT id, state FROM promises ORDER BY id")
    assert states == [("a", "pending"), ("b", "rejected_timedout")]
    assert await is_some_done()


# --- what the database refuses for good -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "spoil"),
    [
        pytest.param(replace(SCHEDULE, id="bad", promise_id=UNINDEXABLE), "", id="the id of a scheduled promise"),
        pytest.param(create("bad"), "UPDATE promises SET tags = '{' WHERE id = 'bad'", id="a row that makes no sense"),
        pytest.param(
            create("bad"), "ALTER TABLE promises ADD CHECK (id <> 'bad' OR state = 'pending')", id="a constraint"
        ),
    ],
)
async def test_due_work_that_fails_for_good_holds_up_nothing_else(
    site: Site, server: Server, request_: Request, spoil: str
) -> None:
    later = server.store.now() + 3_600_000
    if isinstance(request_, ScheduleCreate):
        later = FAR
    else:
        request_ = replace(request_, timeout_at=later)
    others = [replace(create(f"p{number}"), timeout_at=later + number - 1) for number in range(3)]
    answers = await server.at_once(request_, *others)
    assert {answer.status for answer in answers} == {200}
    if spoil:
        await site.execute(spoil)

    while (answer := (await server.at_once(kernel.due(RULES, at=later + 10)))[0]).data:
        assert answer.status == 200, answer.data
    states = await site.execute("SELECT state FROM promises WHERE id LIKE 'p_' ORDER BY id")
    assert states == [("rejected_timedout",)] * 3


async def test_a_tree_that_cannot_be_deleted_keeps_no_other(site: Site, server: Server) -> None:
    await server.at_once(*[create(f"t{number}") for number in range(4)])
    await site.execute("UPDATE promises SET state = 'resolved', settled_at = 1, armed = false")
    await site.execute("CREATE TABLE notes AS SELECT 't1' AS about")
    await site.execute("ALTER TABLE notes ADD FOREIGN KEY (about) REFERENCES promises")

    assert sum([tasks async for tasks in server.store.drop_settled_trees(2)]) == 3
    assert await site.execute("SELECT id FROM promises") == [("t1",)]


async def test_what_the_database_has_no_room_for_leaves_the_connection_and_the_others_alone(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 3.0)
    await server.call(create("p"))
    backend = server.backend
    await site.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'no room' USING ERRCODE = 'disk_full'; END $$",
    )
    await site.execute(
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON promises DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.id = 'large') EXECUTE FUNCTION refuse()",
    )
    large = asyncio.ensure_future(server.call(create("large")))
    await asyncio.sleep(0.5)
    assert (await server.call(create("small"))).status == 200
    assert not large.done()

    assert (await large).status == 503
    assert "no room" in large.result().data
    ready = await report(server.store, Pulse())
    assert (ready.status, "no room" in str(ready.body)) == (503, True)
    assert server.backend == backend


async def test_a_right_that_is_missing_for_a_while_fails_no_request(site: Site) -> None:
    """A client takes any answer but 503 as final."""
    database = site.url.rpartition("/")[2]
    user = f"user_of_{database}"
    await site.execute(f"CREATE ROLE {user} LOGIN")
    await site.execute(f"GRANT CREATE ON DATABASE {database} TO {user}")
    server = site.start(site.url.replace("resonate@", f"{user}@"))
    await server.begin()
    await site.execute(f"REVOKE INSERT ON promises FROM {user}")
    refused = asyncio.ensure_future(server.call(create("p")))
    await until(lambda: "permission denied" in server.store._health.trouble)
    assert not refused.done()

    await site.execute(f"GRANT INSERT ON promises TO {user}")
    assert (await refused).status == 200


async def test_what_makes_no_sense_is_reported_as_a_failed_read(server: Server) -> None:
    """Else whatever the server does with it would end."""
    with pytest.raises(ReadFailed, match="cannot be read: division by zero"):
        await server.store.read(lambda _: 1 / 0)


async def test_a_primary_that_has_become_read_only_is_left_for_another_one(server: Server) -> None:
    await server.call(create("p"))
    assert server.connection is not None
    await server.connection.execute("SET default_transaction_read_only = on")

    assert (await server.call(acquire("p", 0))).status == 200


async def test_a_table_may_get_other_columns_while_servers_work_on_it(site: Site, server: Server) -> None:
    """A query that was under way, or is prepared, fails once."""
    await server.call(create("p"))
    before = await server.everything()
    await site.execute("ALTER TABLE promises ALTER COLUMN tags TYPE varchar, ADD COLUMN note text")

    with suppress(ReadFailed):
        await server.everything()
    assert await server.everything() == before
    assert (await server.call(acquire("p", 0))).status == 200


async def test_a_former_primary_is_not_used_any_more(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts writes, but what they do is not seen by those who have followed its successor."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 3.0)
    with monkeypatch.context() as successor:
        successor.setattr(sql, "GET_PLACE", re.sub(r"CASE .* END", "'FFFFFFFF'", sql.GET_PLACE))
        await site.end_connections()
        assert (await server.call(create("p"))).status == 200
    await site.end_connections()

    assert (await server.call(create("q"))).status == 503
    assert "former primary" in server.store.sharing.trouble
    with pytest.raises(ReadFailed, match="former primary"):
        await server.store.browse(lambda view: view.count_tasks())


async def test_a_pooler_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops the settings of a connection, and names another process than the one that does the work."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 7)
    source = Source(site.url)
    with pytest.raises(psycopg.OperationalError, match="pooler"):
        await source.connect_async()
    with pytest.raises(psycopg.OperationalError, match="pooler"):
        source.connect()


async def test_a_schema_that_was_dropped_is_not_made_again(
    site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a restore from a backup: an empty one would say that the promises of all callers do not exist."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 3.0)
    await server.call(create("p"))
    await site.execute("ALTER SCHEMA resonate RENAME TO elsewhere")
    assert (await server.call(PromiseGet(id="p"))).status == 503
    assert server.store.sharing.trouble

    await site.execute("ALTER SCHEMA elsewhere RENAME TO resonate")
    await until(lambda: not server.store.sharing.trouble)
    assert (await server.call(PromiseGet(id="p"))).status == 200


async def test_settings_of_the_environment_and_of_the_database_change_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    for setting in ("statement_timeout", "idle_session_timeout"):
        await site.execute(f"ALTER DATABASE {site.url.rpartition('/')[2]} SET {setting} = '100ms'")
    server = await site.server()
    assert (await server.call(create("first"))).status == 200
    used = server.backend

    def look(view: Any) -> Any:
        return view._query("SELECT 'done' FROM pg_sleep(0.3)")

    assert await server.store.browse(look) == [("done",)]
    assert (await server.call(create("é → 😀"))).status == 200
    assert server.backend == used
    assert [promise.id for promise in (await server.everything()).promises] == ["first", "é → 😀"]


async def test_queries_that_were_given_up_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would use up the database's connections, however few the server has."""
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.2)
    server = site.start()
    await until(lambda: not server.sharing.trouble)

    def look(view: Any) -> Any:
        return view._query("SELECT pg_sleep(60)")

    for _ in range(5):
        with pytest.raises(ReadFailed):
            await server.store.browse(look)
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()"
    async with asyncio.timeout(10):
        while await site.execute(sleeping):
            await asyncio.sleep(0.1)


async def test_a_statement_without_begin_whose_commit_fails_tells_why_and_keeps_its_connection(site: Site) -> None:
    async with await Source(site.url).connect_async() as connection:
        await connection.execute("CREATE TEMPORARY TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await driver.ask(connection, ("INSERT INTO once VALUES (1), (1)", ()))
        assert await driver.ask(connection, ("SELECT count(*) FROM once", ())) == [[(0,)]]
