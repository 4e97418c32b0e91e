"""The store's cache is invisible: a store that asks its database for everything gives the same answers to the same
random requests and has the same rows after every step."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import to_builtins
from unit.driver import PID, RETRY, START, TARGET, Driver, promise_create, promise_settle
from unit.rows import transaction
from unit.store.stores import seen

from resonate_server.kernel.model import Footprint, Rules
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import PromiseState, Value
from resonate_server.protocol.requests import PromiseCreate, ScheduleCreate, ScheduleDelete, is_below
from resonate_server.store import Dropped
from resonate_server.store.sqlite import IN_MEMORY, Database

ids = st.sampled_from(["a", "a:1", "a:1.1", "b", "é", "\U0001f600"])
versions = st.integers(0, 3)
pids = st.sampled_from([PID, "pid-2"])
ttls = st.integers(1, 50)
deadlines = st.integers(START - 10, START + 500)
results = st.builds(Value, data=st.sampled_from(["", "x"]))
settlements = st.sampled_from([PromiseState.RESOLVED, PromiseState.REJECTED, PromiseState.CANCELED])
addresses = st.sampled_from(["poll://uni@callers/1", "poll://any@callers"])
targets = st.sampled_from([None, TARGET, "poll://any@others/pid-1"])
tag_sets = st.fixed_dictionaries(
    {}, optional={"branch": ids, "parent": ids, "timer": st.sampled_from(["true", "false"]), "origin": ids}
)


@st.composite
def creates(draw: st.DrawFn) -> PromiseCreate:
    id, target, timeout_at = draw(ids), draw(targets), draw(deadlines)
    wanted = draw(tag_sets).items()
    tags = {f"resonate:{name}": text for name, text in wanted if name == "timer" or is_below(id, text)}
    if ":" in id and tags.get("resonate:origin") == id:
        del tags["resonate:origin"]
    if target is not None:
        tags["resonate:target"] = target
        if timeout_at > START and draw(st.booleans()):
            tags["resonate:delay"] = str(draw(st.integers(START, timeout_at - 1)))
    return PromiseCreate(id=id, timeout_at=timeout_at, param=draw(results), tags=tags)


class BatchingStore(Database):
    """Many requests share a transaction, as in the engine, and hardly a row stays in memory after it."""

    REQUESTS_PER_COMMIT = 5

    def __init__(self, path: Path) -> None:
        super().__init__(path, "NORMAL", cache_bytes=1)
        self._requests = 0

    def flush(self) -> bool:
        self._requests += 1
        return self.is_between_transactions and super().flush()

    @property
    def is_between_transactions(self) -> bool:
        return self._requests % self.REQUESTS_PER_COMMIT == 0


class ForgetfulStore(Database):
    """Each request is a transaction, and nothing stays in memory after it."""

    def __init__(self) -> None:
        super().__init__(IN_MEMORY)

    def flush(self) -> bool:
        written = super().flush()
        self._forget_rows()
        return written


class BothStores(RuleBasedStateMachine):
    """Each rule is one request, sent to both stores."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        rules = Rules(retry_timeout_ms=RETRY, notify_batch_size=1)
        self.forgetful = Driver(ForgetfulStore(), rules)
        self.store = BatchingStore(Path(self.folder.name) / "state.db")
        self.batching = Driver(self.store, rules)

    def teardown(self) -> None:
        self.batching.store.close()
        self.folder.cleanup()

    def both(self, request: Callable[[Driver], object]) -> None:
        assert to_builtins(request(self.forgetful)) == to_builtins(request(self.batching))
        self.same_messages()

    def same_messages(self) -> None:
        """Compared in any order, since none is promised."""
        assert sorted(map(repr, self.forgetful.sent)) == sorted(map(repr, self.batching.sent))
        assert sorted(map(repr, self.forgetful.leases_lost)) == sorted(map(repr, self.batching.leases_lost))
        for driver in (self.forgetful, self.batching):
            keep_unblocks(driver)
            driver.forget_messages()

    @rule(create=creates())
    def create(self, create: PromiseCreate) -> None:
        self.both(lambda server: server.call(create))

    @rule(id=ids, state=settlements, result=results)
    def settle(self, id: str, state: PromiseState, result: Value) -> None:
        self.both(lambda server: server.settle(id, state, result))

    @rule(pair=st.lists(ids, min_size=2, max_size=2, unique=True))
    def register_callback(self, pair: list[str]) -> None:
        self.both(lambda server: server.register_callback(pair[0], pair[1]))

    @rule(id=ids, address=addresses)
    def register_listener(self, id: str, address: str) -> None:
        self.both(lambda server: server.register_listener(id, address))

    @rule(create=creates(), pid=pids, ttl=ttls)
    def create_task(self, create: PromiseCreate, pid: str, ttl: int) -> None:
        tags = {"resonate:target": TARGET} | create.tags
        tags.pop("resonate:delay", None)
        with_target = msgspec.structs.replace(create, tags=tags)
        self.both(lambda server: server.create_task(with_target, pid=pid, ttl=ttl))

    @rule(id=ids, version=versions, pid=pids, ttl=ttls)
    def acquire(self, id: str, version: int, pid: str, ttl: int) -> None:
        self.both(lambda server: server.acquire(id, version, pid=pid, ttl=ttl))

    @rule(id=ids, version=versions)
    def release(self, id: str, version: int) -> None:
        self.both(lambda server: server.release(id, version))

    @rule(id=ids, version=versions, state=settlements)
    def fulfill(self, id: str, version: int, state: PromiseState) -> None:
        self.both(lambda server: server.fulfill(id, version, state))

    @rule(chosen=st.lists(ids, min_size=2, max_size=4, unique=True), version=versions)
    def suspend(self, chosen: list[str], version: int) -> None:
        self.both(lambda server: server.suspend(chosen[0], version, *chosen[1:]))

    @rule(pair=st.lists(ids, min_size=2, max_size=2, unique=True), version=versions, timeout_at=deadlines)
    def fence_create(self, pair: list[str], version: int, timeout_at: int) -> None:
        ancestor = pair[0] if is_below(pair[1], pair[0]) else pair[1]
        child = promise_create(pair[1], timeout_at=timeout_at, parent=ancestor, branch=ancestor)
        self.both(lambda server: server.fence(pair[0], version, child))

    @rule(pair=st.lists(ids, min_size=2, max_size=2, unique=True), version=versions)
    def fence_settle(self, pair: list[str], version: int) -> None:
        self.both(lambda server: server.fence(pair[0], version, promise_settle(pair[1])))

    @rule(refs=st.lists(st.tuples(ids, versions), max_size=3), pid=pids)
    def heartbeat(self, refs: list[tuple[str, int]], pid: str) -> None:
        self.both(lambda server: server.heartbeat(*refs, pid=pid))

    @rule(id=ids)
    def halt(self, id: str) -> None:
        self.both(lambda server: server.halt(id))

    @rule(id=ids)
    def continue_(self, id: str) -> None:
        self.both(lambda server: server.continue_(id))

    @rule(pid=pids)
    def holder_gone(self, pid: str) -> None:
        self.both(lambda server: server.release_leases(pid))

    @rule(ms=st.integers(1, 400))
    def time_passes(self, ms: int) -> None:
        self.both(lambda server: server.wait(ms))

    @rule(id=ids)
    def read(self, id: str) -> None:
        self.both(lambda server: server.get(id))
        self.both(lambda server: server.get_task(id))

    @rule(id=st.sampled_from(["s", "a"]), promise_id=st.sampled_from(["a", "b", "{{.id}}-{{.timestamp}}"]))
    def create_schedule(self, id: str, promise_id: str) -> None:
        create = ScheduleCreate(id, "* * * * * *", promise_id, 100, promise_tags={"resonate:target": TARGET})
        self.both(lambda server: server.call(create))

    @rule(id=st.sampled_from(["s", "a"]))
    def delete_schedule(self, id: str) -> None:
        self.both(lambda server: server.call(ScheduleDelete(id)))

    @rule(age=st.integers(0, 300), limit=st.integers(1, 3))
    def drop_settled_trees(self, age: int, limit: int) -> None:
        self.both(lambda server: drop_settled_trees(server, age, limit))

    @rule(create=creates())
    def undone(self, create: PromiseCreate) -> None:
        """Run a transaction that fails after it has written."""
        for driver in (self.forgetful, self.batching):
            try_and_undo(driver, create)

    @invariant()
    def equal_rows(self) -> None:
        """Checked only between transactions, because reading all rows flushes pending writes."""
        if not self.store.is_between_transactions:
            return
        assert seen(self.forgetful.store) == seen(self.batching.store)


def keep_unblocks(driver: Driver) -> None:
    with transaction(driver.store):
        for message in driver.sent:
            if isinstance(message, Unblock):
                driver.store.put_unblock(message, driver.now)


def drop_settled_trees(driver: Driver, age: int, limit: int) -> Dropped:
    with transaction(driver.store):
        return driver.store.drop_settled_trees(driver.now - age, limit)


def try_and_undo(driver: Driver, create: PromiseCreate) -> None:
    scratch = Driver(driver.store)
    scratch.now = driver.now
    if Database.flush(driver.store):  # now, not with the next batch
        driver.store.commit()
    driver.store.load(Footprint(ids=(create.id,), preload_for=create.id))
    scratch.write_only(create)
    driver.store.rollback()


BothStores.TestCase.settings = settings(
    max_examples=min(60, settings().max_examples),  # fewer where the tests run repeatedly
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBothStores = BothStores.TestCase
