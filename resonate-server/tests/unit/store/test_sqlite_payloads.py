"""Payloads are large and stored apart from what is looked up: they are read only to be shown."""

import pytest
from unit.driver import FAR, START, Driver, value
from unit.rows import changes, promise, transaction, write

from resonate_server.kernel.model import Footprint, Unread
from resonate_server.kernel.sizes import is_read
from resonate_server.protocol.records import Promise, PromiseState, Value
from resonate_server.protocol.requests import ScheduleCreate, ScheduleGet
from resonate_server.store.links import MAX_TOLD_BYTES
from resonate_server.store.sqlite import Database

MIB = 1_024 * 1_024
HUGE = value("x" * (4 * MIB))
CALLER = "poll://uni@callers/caller-1"


@pytest.fixture
def server(store: Database) -> Driver:
    return Driver(store)


def reopened(server: Driver) -> Driver:
    """Reopen the store, with nothing in memory."""
    server.store._forget_rows()
    return server


def loaded(server: Driver, id: str, *shown: str) -> Promise:
    with transaction(server.store):
        return server.store.load(Footprint(ids=(id,), shown=shown)).promises[id]


def test_only_payloads_that_are_shown_are_read(server: Driver) -> None:
    server.create("p", param=value("param"))
    server.settle("p", result=value("result"))
    hidden, shown = loaded(reopened(server), "p"), loaded(reopened(server), "p", "p")
    assert (hidden.param, hidden.value) == (Unread(size=len('{"data":"param"}')), Unread(size=len('{"data":"result"}')))
    assert (shown.param, shown.value) == (value("param"), value("result"))


def test_a_promise_that_was_not_read_keeps_its_param_when_it_is_settled(server: Driver) -> None:
    server.create("p", param=HUGE, timeout_at=START + 1)
    reopened(server).wait(1)
    kept = server.promise("p")
    assert (kept.state, kept.param) == (PromiseState.TIMEDOUT, HUGE)


def test_a_listener_receives_a_payload_that_was_not_in_memory(server: Driver) -> None:
    server.create("p", param=HUGE, timeout_at=START + 1)
    server.register_listener("p", CALLER)
    reopened(server).wait(1)
    assert [unblock.promise.param for unblock in server.take_unblocks()] == [HUGE]


def test_listeners_of_many_large_promises_are_notified_gradually(server: Driver) -> None:
    """So that the messages under way never exceed the limit by much."""
    for number in range(6):
        server.create(f"p-{number}", param=HUGE, timeout_at=START + 1)
        server.register_listener(f"p-{number}", CALLER)
    reopened(server).wait(1)

    portions = []
    while told := server.take_unblocks():
        portions.append(sum(len(HUGE.data or "") for _ in told))
        server.tick()

    assert sum(portions) == 6 * 4 * MIB
    assert max(portions) <= MAX_TOLD_BYTES


def test_neither_a_heartbeat_nor_a_deadline_reads_a_payload(server: Driver) -> None:
    ids = [f"p-{number}" for number in range(3)]
    for id in ids:
        server.create(id, param=HUGE, timeout_at=START + 10)
        server.acquire(id, 0)
    reopened(server).heartbeat(*((id, 1) for id in ids))
    assert not any(is_read(loaded(server, id)) for id in ids)
    reopened(server).wait(10)
    assert not any(is_read(loaded(server, id)) for id in ids)


def test_a_large_param_of_a_schedule_reaches_its_promises(server: Driver) -> None:
    server.call(ScheduleCreate("s", "* * * * *", "run-{{.timestamp}}", 1, HUGE, {"resonate:target": "poll://any@g"}))
    due = server.call(ScheduleGet("s")).data.schedule.next_run_at
    server.now = due
    server.tick()
    assert loaded(reopened(server), f"run-{due}", f"run-{due}").param == HUGE
    assert server.call(ScheduleGet("s")).data.schedule.promise_param == HUGE


def test_payloads_are_removed_with_their_tree(store: Database, server: Driver) -> None:
    for id in ("root", "child"):
        tags = {"resonate:origin": "root"} if id == "child" else {}
        write(store, promise(id, PromiseState.RESOLVED, param=value("a"), value=value("b"), tags=tags))
    with transaction(store):
        store.drop_settled_trees(FAR, 10)
        store.write(changes(promise("root")))

    read = loaded(reopened(server), "root", "root")

    counts = [store._db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("params", "results")]
    assert (read.param, read.value) == (Value(), Value())
    assert counts == [(0,), (0,)]
