"""What the engine does for the rest of the server besides requests, and what it counts."""

import asyncio

import pytest
from unit.driver import FAR, SECOND, TARGET, promise_create, promise_settle, task_acquire
from unit.engines import PATIENCE_S, Bench, WatchedDatabase

from resonate_server.protocol.requests import PromiseGet, TaskHalt, TaskRelease
from resonate_server.store.errors import ReadFailed
from resonate_server.store.sqlite.clock import MARK_MS


async def test_a_failed_read_is_reported(bench: Bench) -> None:
    bench.store.refill_fails = 1
    with pytest.raises(ReadFailed):
        await bench.engine.read(lambda view: view.queued_tasks("workers", 1))


async def test_a_store_in_memory_has_no_file(bench: Bench) -> None:
    assert await bench.seam.backup() is None
    assert bench.seam.disk_use() is None


async def test_a_failing_store_is_not_asked_ever_more_often_to_forget_messages(bench: Bench) -> None:
    """This is requested once a minute, however long the disk is full."""
    bench.store.down = True
    for _ in range(10):
        bench.engine.forget_stale_unblocks(60)
    await bench.until(lambda: not bench.seam._patient)
    before = bench.store.attempts
    await asyncio.sleep(1.2)
    assert bench.store.attempts - before <= 4
    bench.store.down = False


async def test_the_mark_of_the_clock_is_never_much_older_than_a_row_even_after_a_failure(bench: Bench) -> None:
    await bench.call(promise_create("a"))
    bench.store.down = True
    bench.now += MARK_MS
    assert (await bench.call(promise_create("b"))).status == 503
    bench.store.down = False
    bench.now += MARK_MS // 2
    assert (await bench.call(promise_create("c"))).status == 200
    mark = bench.store.clock_mark()
    assert mark is not None and mark.time >= bench.now - MARK_MS


class TestSettledTrees:
    async def test_settled_trees_past_the_age_are_deleted_however_many(self) -> None:
        async with Bench(keep_settled_ms=10 * SECOND).at_work() as bench:
            for number in range(120):
                await bench.call(promise_create(f"old-{number}"), promise_settle(f"old-{number}"))
            bench.now += 10 * SECOND
            await bench.call(promise_create("young"), promise_settle("young"))
            bench.now += 1

            await bench.engine.drop_settled_trees()
            await bench.settle_down()

            for id, status in (("old-0", 404), ("old-119", 404), ("young", 200)):
                assert (await bench.call(PromiseGet(id))).status == status
            assert bench.metric("resonate_tasks", state="fulfilled") == 1

    async def test_without_an_age_nothing_is_deleted(self, bench: Bench) -> None:
        await bench.call(promise_create("p"), promise_settle("p"))
        bench.now = FAR
        await bench.engine.drop_settled_trees()
        assert (await bench.call(PromiseGet(id="p"))).status == 200


class TestFigures:
    async def test_tasks_by_state(self, bench: Bench) -> None:
        await bench.call(*map(promise_create, "abcd"), task_acquire("a"), TaskHalt(id="b"), promise_settle("c"))
        await bench.settle_down()

        counted = {
            state: bench.metric("resonate_tasks", state=state)
            for state in ("pending", "acquired", "suspended", "halted", "fulfilled")
        }
        assert counted == {"pending": 1, "acquired": 1, "suspended": 0, "halted": 1, "fulfilled": 1}

    async def test_tasks_by_state_after_a_restart(self) -> None:
        store = WatchedDatabase()
        async with Bench(store).at_work() as before:
            await before.call(promise_create("t"))
        async with Bench(store).at_work() as bench:
            await bench.settle_down()
            assert bench.metric("resonate_tasks", state="pending") == 1

    async def test_commits_and_the_requests_in_them(self, bench: Bench) -> None:
        await bench.settle_down()
        before = bench.metric("resonate_commit_batch_size_sum") or 0
        await bench.call(promise_create("p", target=None))
        await bench.settle_down()
        assert bench.metric("resonate_commit_batch_size_sum") == before + 1
        assert 0 <= (bench.metric("resonate_commit_duration_seconds_sum") or -1) < PATIENCE_S


async def test_an_offer_that_a_worker_returned_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.call(promise_create("t"))
    for version in range(2):
        await bench.call(task_acquire("t", version), TaskRelease(id="t", version=version + 1))
    await bench.settle_down()

    assert f"task t for {TARGET}, function unknown: claimed 2 times, given back each time" in caplog.text
