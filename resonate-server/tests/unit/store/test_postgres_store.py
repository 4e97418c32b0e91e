"""The running PostgreSQL store: concurrent requests, connections that break, and several servers on one database."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from itertools import count, pairwise
from typing import Any

import msgspec
import psycopg
import pytest
from harness.server import FAR
from unit.driver import promise_create, promise_settle
from unit.store.servers import LEASE, PATIENCE_S, RULES, Notes, Told, answering, until

from resonate_server import kernel
from resonate_server.kernel.model import Footprint, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import EMPTY, Value
from resonate_server.protocol.requests import (
    Action,
    FenceCreate,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterListener,
    Request,
    ScheduleCreate,
    SuspendAction,
    TaskAcquire,
    TaskFence,
    TaskFulfill,
    TaskHeartbeat,
    TaskRef,
    TaskSuspend,
)
from resonate_server.store import Decided, Snapshot
from resonate_server.store.postgres import PostgresStore, driver, postgres_store
from resonate_server.store.postgres.driver import connect_async
from resonate_server.store.postgres.job_queue import ENOUGH
from resonate_server.store.postgres.plans import Found, Round
from resonate_server.store.postgres.postgres_store import LONGEST_PAUSE_S, pause_after
from resonate_server.store.postgres.schema import migrate
from resonate_server.store.postgres.transaction import Transaction
from resonate_server.store.sqlite import IN_MEMORY, Database

IDS = ["t", "t.a", "t.b", "t.a.c"]
LARGE = Value(data="x" * 300_000)
UNINDEXABLE = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=4_000)))
"""An id too long for PostgreSQL's indexes, and hardly compressible."""


class Bench:
    """A running store."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.told = Told()

    async def call(self, request: Request) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            return await self.store.decide(*answering(request))

    async def at_once(self, *asked: Request | tuple[Footprint, Rule]) -> list[Answer]:
        """Queue all requests before any of them is decided."""
        questions = [each if isinstance(each, tuple) else answering(each) for each in asked]
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*[self.store.decide(*question) for question in questions])

    async def everything(self) -> Snapshot:
        return await self.store.read(lambda view: view.snapshot())


@pytest.fixture
async def bench(own_postgres_url: str) -> AsyncIterator[Bench]:
    """A bench on an empty database."""
    bench = Bench(PostgresStore(own_postgres_url, 6))
    bench.store.start(bench.told)
    async with asyncio.timeout(PATIENCE_S):
        await bench.store.decide(*kernel.renewing(RULES))
    yield bench
    await bench.store.close()


END_CONNECTIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"


async def execute(url: str, statement: str, *parameters: Any) -> list[Any]:
    async with await connect_async(url) as connection:
        cursor = await connection.execute(statement.encode(), parameters or None)
        return await cursor.fetchall() if cursor.description else []


def create(id: str, param: Value = EMPTY) -> PromiseCreate:
    """Create a promise in the branch of its tree's root, as the child of the one above it."""
    return promise_create(
        id, timeout_at=FAR, param=param, branch=id.partition(".")[0], parent=id.rpartition(".")[0] or id
    )


def acquire(id: str, version: int, pid: str = "pid-1") -> TaskAcquire:
    return TaskAcquire(id=id, version=version, pid=pid, ttl=LEASE)


def suspend(id: str, version: int, *awaited: str) -> TaskSuspend:
    return TaskSuspend(
        id=id, version=version, actions=[Action(data=SuspendAction(awaited=each, awaiter=id)) for each in awaited]
    )


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
        lambda: suspend(id, version, *rng.sample([each for each in IDS if each != id], 2)),
        lambda: suspend(id, version, other),
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
    everything = msgspec.structs.asdict(snapshot)
    everything["unblocks"] = sorted(snapshot.unblocks, key=lambda unblock: unblock.promise.id)
    return everything


@pytest.mark.parametrize("seed", [8, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(20, 40))])
async def test_concurrent_requests_are_equivalent_to_the_reported_order(bench: Bench, seed: int) -> None:
    async def client(number: int) -> list[int]:
        rng = random.Random(f"{seed} {number}")
        return [(await bench.call(anything(rng))).status for _ in range(40)]

    statuses = [status for each in await asyncio.gather(*map(client, range(8))) for status in each]
    left = await bench.everything()

    told = bench.told.requests
    assert len(told) == len(statuses) == 8 * 40
    assert not {500, 503}.intersection(statuses)
    answers, expected = in_turn(told)
    assert [shown(decided.decision.answer) for decided in told] == answers
    assert without_order(left) == without_order(expected)


async def test_concurrent_creations_of_a_schedule_all_return_the_same_one(bench: Bench) -> None:
    for number in range(10):
        schedule = ScheduleCreate(id=f"s{number}", cron="0 0 1 1 *", promise_id="p", promise_timeout=1)
        requests = [msgspec.structs.replace(schedule, promise_tags={"by": by}) for by in "abcdef"]
        answers = await asyncio.gather(*map(bench.call, requests))

        assert {answer.status for answer in answers} == {200}
        assert len({answer.data.schedule.promise_tags["by"] for answer in answers}) == 1


async def test_one_of_many_concurrent_creations_succeeds_and_the_others_return_it(bench: Bench) -> None:
    requests = [create("p", Value(data=str(number))) for number in range(20)]
    answers = await asyncio.gather(*map(bench.call, requests))

    assert {answer.status for answer in answers} == {200}
    assert len({answer.data.promise.param.data for answer in answers}) == 1


# --- round trips ----------------------------------------------------------------------------------------------------


class RoundTrips:
    """What is sent to the database in transactions."""

    def __init__(self) -> None:
        self.asked: list[Round] = []
        self.prepared: list[int] = []
        """How many statements the connection had prepared after each."""

    async def ask(self, connection: driver.ServingConnection, asked: Round) -> Found:
        self.asked.append(asked)
        found = await driver.ask(connection, asked)
        self.prepared.append(len(connection.prepared))
        return found


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> RoundTrips:
    made = RoundTrips()
    monkeypatch.setattr("resonate_server.store.postgres.transaction.ask", made.ask)
    return made


async def test_a_write_takes_two_round_trips_and_a_read_takes_one(bench: Bench, round_trips: RoundTrips) -> None:
    """Even if a task awaits what is settled; locking in the order of ids is no reason to start over."""
    requests = [
        create("parent"),
        acquire("parent", 0),
        TaskFence(id="parent", version=1, action=FenceCreate(data=create("parent.child"))),
        suspend("parent", 1, "parent.child"),
        acquire("parent.child", 0),
        fulfill("parent.child", 1),
        acquire("parent", 1),
        fulfill("parent", 2),
    ]
    for request in requests:
        round_trips.asked.clear()
        answer = await bench.call(request)
        assert (answer.status, len([each for each in round_trips.asked if "next due" not in each])) == (200, 2), request

    round_trips.asked.clear()
    assert (await bench.call(PromiseGet(id="parent"))).status == 200
    assert len([each for each in round_trips.asked if "rollback" not in each]) == 1  # Nothing waits for the rollback.


async def test_a_connection_prepares_few_statements(
    bench: Bench, round_trips: RoundTrips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "MAX_PREPARED", 2)
    for number in range(5):
        for request in (create(f"p{number}"), acquire(f"p{number}", 0), fulfill(f"p{number}", 1)):
            assert (await bench.call(request)).status == 200

    forgotten = [later < before for before, later in pairwise(round_trips.prepared)]
    assert forgotten.count(True) >= 5


# --- together -------------------------------------------------------------------------------------------------------


async def test_queued_requests_share_two_round_trips_and_one_commit(bench: Bench, round_trips: RoundTrips) -> None:
    bench.told.shared.clear()
    answers = await bench.at_once(*[create(f"p{number}") for number in range(40)])

    assert {answer.status for answer in answers} == {200}
    assert bench.told.shared == [40]
    assert len([each for each in round_trips.asked if {"locked", "write"} & each.keys()]) == 2


async def test_each_request_sees_the_changes_of_those_before_it(bench: Bench) -> None:
    bench.told.shared.clear()
    answers = await bench.at_once(
        create("parent"),
        acquire("parent", 0),
        TaskFence(id="parent", version=1, action=FenceCreate(data=create("parent.child"))),
        acquire("parent.child", 0),
        suspend("parent", 1, "parent.child"),
        PromiseGet(id="parent.child"),
    )

    assert [answer.status for answer in answers] == [200] * 6
    assert bench.told.shared == [6]


async def test_a_request_that_needs_links_changed_by_earlier_ones_follows_them(bench: Bench) -> None:
    await bench.at_once(create("a"), create("b"), acquire("a", 0), acquire("b", 0))
    answers = await bench.at_once(suspend("a", 1, "b"), fulfill("b", 1))

    assert [answer.status for answer in answers] == [200, 200]
    assert (await bench.call(acquire("a", 1))).status == 200  # It was woken.


async def test_a_request_that_the_database_refuses_fails_no_other(bench: Bench) -> None:
    answers = await bench.at_once(create("a"), create(UNINDEXABLE), create("b"))

    assert [answer.status for answer in answers] == [200, 400, 200]


async def test_a_request_whose_rule_fails_fails_no_other(bench: Bench) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    answers = await bench.at_once(create("a"), (Footprint(ids=("a",)), Rule(fail)), create("b"))

    assert [answer.status for answer in answers] == [200, 500, 200]


async def test_a_request_for_a_locked_row_waits_alone(
    bench: Bench, own_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    await bench.at_once(create("a"), create("b"))
    async with await connect_async(own_postgres_url) as other, other.transaction():
        await other.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await other.execute("SELECT 1 FROM promises WHERE id = 'a' FOR UPDATE")
        waits = bench.store.decide(*answering(acquire("a", 0)))
        assert (await bench.call(acquire("b", 0))).status == 200
        assert (await bench.call(PromiseGet(id="b"))).status == 200
        assert not waits.done()
    async with asyncio.timeout(PATIENCE_S):
        assert (await waits).status == 200


async def test_a_large_answer_is_read_separately_from_the_others(bench: Bench) -> None:
    await bench.at_once(create("large", LARGE), create("small"))
    large, small = await bench.at_once(PromiseGet(id="large"), PromiseGet(id="small"))
    alone = await bench.call(PromiseGet(id="large"))

    assert large.data.promise.param == alone.data.promise.param == LARGE
    assert (small.status, small.weight) == (200, 0)


# --- connections that break -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_heard", [True, False], ids=["before", "after"])
async def test_a_connection_that_breaks_at_a_commit_does_no_harm(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_heard: bool
) -> None:
    """Whether or not the commit succeeded, the request takes effect once and is reported once."""
    commit = Transaction.commit
    broken: list[Transaction] = []

    async def breaking(self: Transaction, *asked: Any) -> Found:
        if broken:
            return await commit(self, *asked)
        broken.append(self)
        if not is_heard:
            await commit(self, *asked)
        raise psycopg.OperationalError("the connection broke")

    monkeypatch.setattr(Transaction, "commit", breaking)
    answer = await bench.call(create("p"))

    assert broken
    assert answer.status == 200
    assert len(bench.told.requests) == 1
    assert [promise.id for promise in (await bench.everything()).promises] == ["p"]


async def test_a_request_survives_the_end_of_all_connections(bench: Bench, own_postgres_url: str) -> None:
    await bench.call(create("before"))
    await execute(own_postgres_url, f"{END_CONNECTIONS} AND pid <> pg_backend_pid()")

    assert (await bench.call(create("after"))).status == 200


async def test_while_the_database_is_away_a_request_is_refused_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", 0.1)

    async def fail(*_: Any) -> Found:
        raise psycopg.OperationalError("nobody there")

    monkeypatch.setattr("resonate_server.store.postgres.transaction.ask", fail)
    answer = await bench.call(create("p"))

    assert answer.status == 503
    assert "nobody there" in answer.data


async def test_an_id_too_long_for_an_index_is_refused_with_the_reason(bench: Bench) -> None:
    answer = await bench.call(create(UNINDEXABLE))

    assert answer.status == 400
    assert "longer than PostgreSQL can index" in answer.data


# --- several servers ------------------------------------------------------------------------------------------------


class Site:
    """Stores on one database, each belonging to its own server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stores: list[PostgresStore] = []

    async def store(self) -> tuple[PostgresStore, Notes]:
        """Start another store and wait until it works."""
        store, notes = self.start()
        async with store.beginning():
            return store, notes

    async def connected(self, count: int) -> list[tuple[PostgresStore, Notes]]:
        """Start stores and wait until each knows the others."""
        stores = [await self.store() for _ in range(count)]
        await until(lambda: all(len(notes.rosters) == count - 1 and notes.missed for _, notes in stores))
        return stores

    def start(self) -> tuple[PostgresStore, Notes]:
        store, notes = PostgresStore(self.url, 2), Notes()
        store.sharing.listener = notes
        store.start(Told())
        self.stores.append(store)
        return store, notes

    async def execute(self, statement: str, *parameters: Any) -> list[Any]:
        return await execute(self.url, statement, *parameters)


@pytest.fixture
async def site(own_postgres_url: str) -> AsyncIterator[Site]:
    site = Site(own_postgres_url)
    async with asyncio.timeout(3 * PATIENCE_S):
        yield site
        for store in site.stores:
            await store.close()


async def test_servers_know_each_other_and_what_each_has_published(site: Site) -> None:
    (first, of_first), (second, of_second) = await site.store(), await site.store()
    first.sharing.publish(b"[1]")
    second.sharing.publish(b"[2]")

    await until(lambda: of_first.rosters == {second.sharing.id: b"[2]"})
    await until(lambda: of_second.rosters == {first.sharing.id: b"[1]"})


async def test_a_server_that_left_is_forgotten_and_has_no_heir(site: Site) -> None:
    (_, of_first), (second, _) = await site.store(), await site.store()
    await until(lambda: of_first.rosters)
    missed = of_first.missed
    await second.close()

    await until(lambda: not of_first.rosters)
    assert of_first.inherited == []
    assert of_first.missed > missed


async def test_all_other_servers_hear_what_one_announces(site: Site) -> None:
    stores = await site.connected(3)
    for text in ("1", '"\ue000"', f'"{"x" * 5_000}"', f'"{"y" * 5_000}"'):
        stores[0][0].sharing.ring(text.encode())

    expected = [1, "\ue000", "x" * 5_000, "y" * 5_000]
    await until(lambda: all(heard(notes) == expected for _, notes in stores[1:]))
    assert stores[0][1].rung == []


async def test_mentions_travel_with_announcements_or_else_alone(site: Site) -> None:
    (first, _), (_, of_second) = await site.store(), await site.store()
    await until(lambda: first.sharing.has_others and of_second.missed)
    first.sharing.notify_later(b"1")
    first.sharing.ring(b"2")
    await until(lambda: of_second.rung)
    assert of_second.rung == ["[1,2]"]

    first.sharing.notify_later(b"3")
    await until(lambda: heard(of_second) == [1, 2, 3])


def heard(notes: Notes) -> list[Any]:
    return [message for messages in notes.rung for message in msgspec.json.decode(messages)]


async def test_a_server_whose_listening_connection_broke_learns_that_it_may_have_missed_something(site: Site) -> None:
    _, notes = await site.store()
    await until(lambda: notes.missed >= 2)  # once when it began to listen, once when all others knew it
    await site.execute(f"{END_CONNECTIONS} AND query LIKE 'LISTEN%'")

    await until(lambda: notes.missed >= 3)


async def test_a_dead_server_has_exactly_one_heir(site: Site) -> None:
    stores = await site.connected(3)
    await site.execute(
        "INSERT INTO servers (id, backend, beat_at, version, roster) VALUES"
        " (7, 0, (extract(epoch from clock_timestamp()) * 1000)::bigint, 1, '[7]')"
    )

    await until(lambda: any(notes.inherited for _, notes in stores))
    await asyncio.sleep(2)  # Let each look again.
    assert sorted(notes.inherited for _, notes in stores) == [[], [], [b"[7]"]]


async def test_a_server_declared_dead_rejoins_and_may_have_missed_something(site: Site) -> None:
    (first, of_first), (second, of_second) = await site.store(), await site.store()
    second.sharing.publish(b"[2]")
    await until(lambda: of_first.rosters.get(second.sharing.id) == b"[2]" and of_second.missed >= 2)
    missed = of_second.missed
    await site.execute("DELETE FROM servers WHERE id = %s", second.sharing.id)

    await until(lambda: of_second.missed > missed)
    await until(lambda: of_first.rosters == {second.sharing.id: b"[2]"})
    assert (await second.decide(*answering(create("p")))).status == 200
    assert first.sharing.has_others


async def test_the_first_server_starts_alone_and_the_others_after_it(site: Site) -> None:
    first, _ = site.start()
    async with first.beginning() as is_first:
        second, _ = site.start()
        assert is_first
        await asyncio.sleep(1)
        assert second.sharing.trouble
    async with second.beginning() as is_first:
        assert not is_first


async def test_the_successor_of_a_dead_lone_server_is_the_first_and_inherits_nothing(site: Site) -> None:
    first, _ = await site.store()
    await site.execute("UPDATE servers SET backend = 0, roster = '[1]'")
    first.sharing.stop()
    second, notes = site.start()
    async with second.beginning() as is_first:
        assert is_first
    assert notes.inherited == []


async def test_a_server_that_finds_a_newer_schema_stops(site: Site) -> None:
    store, _ = await site.store()
    await site.execute("INSERT INTO schema_version (version) VALUES (99)")

    async with asyncio.timeout(PATIENCE_S):
        assert "schema version 99" in await store.lost


async def test_servers_that_create_the_same_concurrently_all_return_one(site: Site) -> None:
    stores = [(await site.store())[0] for _ in range(3)]
    for tree in range(5):
        requests = [
            (store, create(f"{tree}.{number}", Value(data=str(by))))
            for number in range(20)
            for by, store in enumerate(stores)
        ]
        async with asyncio.timeout(PATIENCE_S):
            answers = await asyncio.gather(*[store.decide(*answering(request)) for store, request in requests])

        assert {answer.status for answer in answers} == {200}
        made = {answer.data.promise.id: answer.data.promise.param.data for answer in answers}
        assert all(made[answer.data.promise.id] == answer.data.promise.param.data for answer in answers)


async def test_among_other_servers_the_work_after_a_shared_transaction_waits_for_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "FORGET_S", PATIENCE_S)
    monkeypatch.setattr(postgres_store, "pause_after", lambda *_: PATIENCE_S)
    (store, _), _ = await site.store(), await site.store()
    await until(lambda: store.sharing.has_others)
    told = Told()
    store._listener = told

    await asyncio.gather(*[store.decide(*answering(create(id))) for id in "ab"])
    early = store.decide(*answering(create("early")))
    await asyncio.sleep(0.1)
    assert not early.done()
    await asyncio.gather(early, *[store.decide(*answering(create(f"p{number}"))) for number in range(ENOUGH - 1)])

    assert told.shared == [2, ENOUGH]


@pytest.mark.parametrize(("took", "others", "pause"), [(0.01, 1, 0.01), (0.01, 2, 0.02), (5, 2, LONGEST_PAUSE_S)])
def test_the_pause_after_a_shared_transaction_leaves_each_other_server_its_time(
    took: float, others: int, pause: float
) -> None:
    assert pause_after(took, others) == pause


async def test_a_request_for_a_contended_row_is_not_starved(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_store, "PATIENCE_S", PATIENCE_S)
    *crowd, lonely = [(await site.store())[0] for _ in range(3)]
    assert (await lonely.decide(*answering(create("hot")))).status == 200

    async def want(store: PostgresStore) -> None:
        for number in count():
            listener = f"poll://uni@callers/{id(store)}-{number}"
            await store.decide(*answering(PromiseRegisterListener(awaited="hot", address=listener)))

    wanting = [asyncio.create_task(want(store)) for store in crowd for _ in range(4)]
    answers = [await lonely.decide(*answering(PromiseGet(id="hot"))) for _ in range(20)]
    for task in wanting:
        task.cancel()

    assert {answer.status for answer in answers} == {200}


async def test_due_rows_locked_by_another_server_are_left_to_it(site: Site) -> None:
    """Together with everything that depends on it; the rest is done."""
    store, _ = await site.store()
    for id in ("a", "b"):
        promise = msgspec.structs.replace(create(id), timeout_at=store.now() + 60_000)
        assert (await store.decide(*answering(promise))).status == 200
    later = store.now() + 120_000
    async with await connect_async(site.url) as other, other.transaction():
        await other.execute("SELECT 1 FROM promises WHERE id = 'a' FOR UPDATE")
        due = kernel.due(RULES, at=later)
        assert (await store.decide(*due)).data
        assert not (await store.decide(*due)).data
        states = await site.execute("SELECT id, state FROM promises ORDER BY id")
    assert states == [("a", "pending"), ("b", "rejected_timedout")]
    assert (await store.decide(*due)).data


async def test_ten_servers_create_the_schema_concurrently(own_postgres_url: str) -> None:
    async def make() -> None:
        async with await connect_async(own_postgres_url) as connection:
            await migrate(connection)

    await asyncio.gather(*[make() for _ in range(10)])

    assert await execute(own_postgres_url, "SELECT version FROM schema_version") == [(1,), (2,)]
