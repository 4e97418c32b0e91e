"""Long work is done in portions, between which other requests get their turn."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import UNSET
from unit.driver import PID, SECOND, promise_create, promise_settle, task_acquire
from unit.engines import Bench

from resonate_server.engine import engine as engine_module
from resonate_server.engine import queries
from resonate_server.kernel.model import Changes, Rules
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import PromiseState, TaskState
from resonate_server.protocol.requests import (
    PromiseGet,
    PromiseRegisterListener,
    PromiseSearch,
    Request,
    TaskHeartbeat,
    TaskRef,
    TaskSearch,
)
from resonate_server.store.sqlite import store

LISTENERS = [f"poll://uni@callers/{number}" for number in range(200)]
LEASE_MS = 60 * SECOND
MANY = 300
NOTHING = {"no": "such"}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench(rules=Rules(notify_batch_size=10)).at_work() as bench:
        yield bench


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make portions small, so that a search over some hundred rows is a long one."""
    monkeypatch.setattr(queries, "STEP", 1)
    monkeypatch.setattr(queries, "PORTION_S", 0.000_1)


async def fill(bench: Bench, count: int = MANY) -> list[str]:
    ids = [f"p-{number:04}" for number in range(count)]
    await asyncio.gather(*(bench.call(promise_create(id)) for id in ids))
    return ids


async def held(bench: Bench, count: int) -> TaskHeartbeat:
    """Let a process claim so many tasks, and return its heartbeat."""
    ids = await fill(bench, count)
    await asyncio.gather(*(bench.call(task_acquire(id, ttl=LEASE_MS)) for id in ids))
    return TaskHeartbeat(pid=PID, tasks=[TaskRef(id, 1) for id in ids])


def asked(bench: Bench, request: Request) -> asyncio.Task[Answer]:
    return asyncio.create_task(bench.call(request))


async def pass_by(bench: Bench, number: int) -> None:
    for each in range(3):
        assert (await bench.call(promise_create(f"other-{number}-{each}", target=None))).status == 200


class TestSpreading:
    async def settle(self, bench: Bench) -> None:
        await bench.call(promise_create("p", target=None))
        await asyncio.gather(*(bench.call(PromiseRegisterListener("p", address)) for address in LISTENERS))
        assert (await bench.call(promise_settle("p"))).status == 200

    async def test_all_are_notified_once_and_other_requests_are_answered_meanwhile(self, bench: Bench) -> None:
        await self.settle(bench)
        await pass_by(bench, 0)
        assert len(bench.notes.unblocks) < len(LISTENERS)
        await bench.until(lambda: len(bench.notes.unblocks) >= len(LISTENERS))
        await bench.settle_down()
        assert sorted(unblock.address for unblock in bench.notes.unblocks) == sorted(LISTENERS)

    async def test_spreading_continues_after_a_restart(self) -> None:
        async with Bench(rules=Rules(notify_batch_size=10)).at_work() as bench:
            await self.settle(bench)
        told = {unblock.address for unblock in bench.notes.unblocks}
        assert len(told) < len(LISTENERS)
        async with Bench(bench.store).at_work() as again:
            await again.until(lambda: len(told | {each.address for each in again.notes.unblocks}) == len(LISTENERS))


@pytest.mark.usefixtures("small_portions")
class TestSearch:
    async def test_other_requests_are_answered_before_a_long_search(self, bench: Bench) -> None:
        await fill(bench)
        searches = [asked(bench, PromiseSearch(tags=NOTHING)), asked(bench, TaskSearch(state=TaskState.HALTED))]

        await pass_by(bench, 0)

        assert not any(search.done() for search in searches)
        assert [(await search).status for search in searches] == [200, 200]

    @pytest.mark.parametrize("count", [0, 1, 6, 7, 8])
    async def test_the_pages_of_a_search_hold_everything_once(self, bench: Bench, count: int) -> None:
        ids = await fill(bench, count)

        found, cursor = [], None
        while True:
            page = (await bench.call(PromiseSearch(limit=7, cursor=cursor))).data
            found += [promise.id for promise in page.promises]
            if page.cursor is UNSET:
                break
            cursor = page.cursor

        assert found == ids

    async def test_a_search_without_a_waiting_client_is_abandoned(self, bench: Bench) -> None:
        await fill(bench)
        search = asked(bench, PromiseSearch(tags=NOTHING))
        await pass_by(bench, 0)
        search.cancel()
        await pass_by(bench, 1)
        assert not bench.seam._patient

    async def test_a_stopping_server_does_not_wait_for_a_search(self) -> None:
        async with Bench(rules=Rules()).at_work() as bench:
            await fill(bench)
            search = asked(bench, PromiseSearch(tags=NOTHING))
            await pass_by(bench, 0)
        assert (await search).status == 503


class TestManyIds:
    @pytest.fixture(autouse=True)
    def small_portions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine_module, "MAX_LEASES", 10)

    async def test_other_requests_are_answered_before_a_long_heartbeat(self, bench: Bench) -> None:
        beat = await held(bench, MANY)
        bench.now += LEASE_MS - 1
        beating = asked(bench, beat)

        await pass_by(bench, 0)

        assert not beating.done()
        assert (await beating).status == 200
        bench.now += LEASE_MS - 1
        found = await bench.call(TaskSearch(state=TaskState.ACQUIRED, limit=1_000))
        assert len(found.data.tasks) == MANY

    async def test_a_long_heartbeat_extends_a_portion_of_its_leases_at_a_time(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beat = await held(bench, 25)
        portions: list[int] = []
        write = bench.store.write

        def noting(changes: Changes) -> None:
            portions.append(len(changes.tasks))
            write(changes)

        monkeypatch.setattr(bench.store, "write", noting)
        bench.now += 1
        await bench.call(beat)

        assert portions == [10, 10, 5]

    async def test_a_heartbeat_that_the_store_rejects_fails_and_is_not_continued(self, bench: Bench) -> None:
        beat = await held(bench, 25)
        bench.store.down, before = True, bench.store.attempts

        bench.now += 1
        answer = await bench.call(beat)
        asked = bench.store.attempts - before
        bench.store.down = False

        assert (answer.status, asked) == (503, 1)


class TestBatches:
    async def test_a_long_batch_is_split_and_all_requests_are_answered_in_order(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "MAX_DECIDING_S", 0.0)
        before = bench.store.commits
        requests = [promise_create("p"), promise_settle("p"), PromiseGet(id="p"), promise_create("q")]

        answers = await asyncio.gather(*map(bench.call, requests))

        assert [answer.status for answer in answers] == [200] * 4
        assert answers[2].data.promise.state is PromiseState.RESOLVED
        assert bench.store.commits - before == 3

    async def test_many_reads_do_not_block_the_event_loop(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "MAX_BATCH", 1)
        reads = [asked(bench, PromiseGet(id="p")) for _ in range(100)]
        turns = 0
        while not reads[-1].done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 50
