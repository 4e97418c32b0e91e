"""One request, one answer after the commit; and the engine's own work: sections 3, 4.5 and 9 (1 to 3, 6 and 13)."""

import asyncio

import pytest
from unit.driver import (
    PID,
    SECOND,
    START,
    TARGET,
    promise_create,
    promise_settle,
    task_acquire,
    task_suspend,
    value,
)
from unit.engines import PATIENCE_S, RETRY_MS, Bench, WatchedDatabase
from unit.hubs import hub_of

from resonate_server.engine.engine import MAX_UNBLOCK_BYTES
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.messages import Execute, Unblock
from resonate_server.protocol.records import EMPTY, PromiseState, TaskState, Value
from resonate_server.protocol.requests import (
    DebugReset,
    DebugStart,
    PromiseGet,
    PromiseRegisterListener,
    PromiseSearch,
    Request,
    TaskGet,
    TaskHeartbeat,
    TaskSearch,
)
from resonate_server.store.errors import ReadFailed

LEASE_MS = 50
"""Short enough not to count as time in which the server stood still."""
LISTENER = "poll://uni@callers/c1"


async def test_a_caller_that_gives_up_does_not_affect_others(bench: Bench) -> None:
    bench.store.gate.clear()
    given_up = asyncio.create_task(bench.call(promise_create("p")))
    waiting = asyncio.create_task(bench.call(promise_create("q")))
    await asyncio.sleep(0)
    given_up.cancel()
    bench.store.gate.set()

    assert (await waiting).status == 200
    assert (await bench.call(PromiseGet(id="p"))).status == 200


class TestCommit:
    async def test_a_request_that_finds_the_store_idle_is_decided_at_once(self, bench: Bench) -> None:
        await bench.settle_down()
        assert bench.engine.submit(CheckedRequest("c", PromiseGet(id="p"))).done()

    async def test_queued_requests_share_a_commit(self, bench: Bench) -> None:
        await bench.settle_down()
        bench.store.gate.clear()
        calls = [asyncio.create_task(bench.call(promise_create(f"p-{number}"))) for number in range(100)]
        await asyncio.sleep(0)
        before = bench.store.commits
        bench.store.gate.set()
        await asyncio.gather(*calls)

        assert bench.store.commits - before <= 10, "two, where deciding all of them takes no more than its share"

    async def test_no_message_leaves_before_its_commit(self, bench: Bench) -> None:
        await bench.settle_down()
        bench.notes.store = bench.store
        before = bench.store.commits

        await bench.call(promise_create("p"))
        await bench.until(lambda: bench.notes.seen == [("execute", "p")])

        assert bench.notes.commits_at_first_message is not None
        assert bench.notes.commits_at_first_message > before

    async def test_a_failing_request_fails_alone(self, bench: Bench) -> None:
        bench.store.poisoned = "bad"
        answers = await asyncio.gather(*(bench.call(promise_create(id)) for id in ("a", "bad", "b")))
        assert [answer.status for answer in answers] == [200, 500, 200]
        assert isinstance(answers[1].data, str)

    async def test_a_request_with_many_ids_does_not_make_the_store_look_broken(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        await bench.call(promise_create("bad", timeout_at=START + 50))
        bench.store.poisoned = "bad"
        bench.now += 50
        assert (await bench.call(task_suspend("t", 1, "bad", *map(str, range(50))))).status == 500
        assert "cannot store anything" not in caplog.text

    async def test_a_failing_commit_fails_changes_and_sends_nothing(self, bench: Bench) -> None:
        bench.store.down = True
        answers = await asyncio.gather(*(bench.call(promise_create(id)) for id in ("a", "b")))
        bench.store.down = False
        assert [answer.status for answer in answers] == [503, 503]
        assert (await bench.call(PromiseGet(id="a"))).status == 404
        assert bench.notes.seen == []

    async def test_what_was_due_while_the_store_failed_is_done_afterwards(self, bench: Bench) -> None:
        await bench.call(promise_create("t"))
        bench.store.down = True
        bench.now += RETRY_MS
        await bench.call(PromiseGet(id="t"))
        bench.store.down = False
        bench.now += 2 * SECOND

        await bench.until(lambda: bench.notes.seen.count(("execute", "t")) >= 2)

    async def test_a_failed_store_is_not_polled_constantly(self, bench: Bench) -> None:
        await bench.call(promise_create("t"))
        bench.store.down = True
        bench.now += RETRY_MS
        await bench.call(promise_create("u"))
        asked = bench.store.attempts

        await asyncio.sleep(0.2)

        assert bench.store.attempts - asked <= 2

    async def test_committed_work_is_answered_and_sent_even_if_the_store_fails_afterwards(self, bench: Bench) -> None:
        await bench.settle_down()
        bench.store.is_timeless = True
        assert (await bench.call(promise_create("t"))).status == 200
        await bench.until(lambda: bench.notes.seen == [("execute", "t")])

    async def test_due_work_that_fails_does_not_fail_the_requests_beside_it(self, bench: Bench) -> None:
        """A row that no rule can handle must not stop everything for ever."""
        await bench.call(promise_create("bad", target=None, timeout_at=START + 50))
        bench.store.poisoned = "bad"
        bench.now += 50
        answers = [await bench.call(promise_create(f"p-{number}")) for number in range(3)]
        assert [answer.status for answer in answers] == [200] * 3

    async def test_it_is_ready_while_the_store_works(self, bench: Bench) -> None:
        assert not await bench.seam.trouble()
        bench.store.down = True
        assert await bench.seam.trouble()
        bench.store.down = False
        assert not await bench.seam.trouble()

    async def test_a_hanging_commit_is_reported_as_in_progress(self, bench: Bench) -> None:
        bench.store.gate.clear()
        creating = asyncio.create_task(bench.call(promise_create("a")))
        await bench.until(lambda: bench.seam.last_commit is not None and bench.seam.last_commit.is_under_way)
        bench.store.gate.set()
        await creating
        assert bench.seam.last_commit is not None
        assert not bench.seam.last_commit.is_under_way

    async def test_the_server_s_own_work_outlasts_a_disk_that_hangs(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To count the tasks of a large store may take longer than a request waits: it must not begin again."""
        monkeypatch.setattr("resonate_server.store.sqlite.store.PATIENCE_S", 1)
        await bench.settle_down()
        bench.store.gate.clear()
        creating = asyncio.create_task(bench.call(promise_create("a")))
        await asyncio.sleep(0)
        own, theirs = bench.seam.read(lambda view: view.count_tasks()), bench.seam.browse(lambda _: None)

        assert (await creating).status == 503
        with pytest.raises(ReadFailed):
            await theirs
        assert not own.done()
        bench.store.gate.set()
        assert (await own).total() == 1

    async def test_stopping_finishes_submitted_requests_and_closes_the_store(self) -> None:
        async with Bench().at_work() as bench:
            bench.store.gate.clear()
            calls = [asyncio.create_task(bench.call(promise_create(f"p-{number}"))) for number in range(600)]
            await asyncio.sleep(0)
        assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 600
        assert bench.store.closed


class TestByItself:
    """Section 9, items 1 and 2: work triggered by a timer, without a request."""

    async def test_a_worker_that_let_a_lease_lapse_is_silent_until_heard_again(self, bench: Bench) -> None:
        await bench.call(promise_create("t"), task_acquire("t", ttl=LEASE_MS))
        bench.now += LEASE_MS
        await bench.until(lambda: bench.notes.silent_workers == {PID})
        await bench.until(lambda: bench.notes.seen == [("execute", "t"), ("withdraw", "t"), ("execute", "t")])

        await bench.call(TaskHeartbeat(pid=PID, tasks=[]))

        assert bench.notes.silent_workers == set()

    async def test_an_earlier_deadline_that_is_added_later_is_not_missed(self, bench: Bench) -> None:
        await bench.call(promise_create("late", target=None, timeout_at=START + 60 * SECOND))
        await bench.call(promise_create("early", target=None, timeout_at=START + 50))
        await bench.call(PromiseRegisterListener(awaited="early", address=LISTENER))
        bench.now += 50
        await bench.until(lambda: bench.notes.seen == [("unblock", "early")])

    async def test_hundreds_at_once_are_all_done(self, bench: Bench) -> None:
        ids = [f"p-{number}" for number in range(350)]
        await asyncio.gather(*(bench.call(promise_create(id, timeout_at=START + 50)) for id in ids))
        for id in ids[::50]:
            await bench.call(PromiseRegisterListener(awaited=id, address=LISTENER))
        bench.now += 50

        await bench.until(lambda: len(bench.notes.unblocks) == len(ids[::50]))
        await bench.until(lambda: bench.notes.seen.count(("withdraw", ids[-1])) == 1)
        found = await bench.call(PromiseSearch(state=PromiseState.PENDING))
        assert found.data.promises == []


class TestSearch:
    """Section 3.1, and section 9, item 13: promises past their deadline are shown as settled."""

    @pytest.mark.parametrize("debug_time", [None, START + 50])
    async def test_past_its_deadline_an_internal_promise_is_not_shown_as_pending(
        self, bench: Bench, debug_time: int | None
    ) -> None:
        await bench.call(promise_create("p", target=None, timeout_at=START + 50, external="false"))
        bench.now += 0 if debug_time else 50
        pending = await bench.call(PromiseSearch(state=PromiseState.PENDING), debug_time=debug_time)
        timed_out = await bench.call(PromiseSearch(state=PromiseState.TIMEDOUT), debug_time=debug_time)
        assert pending.data.promises == []
        assert [promise.settled_at for promise in timed_out.data.promises] == [START + 50]

    async def test_past_its_deadline_its_task_is_shown_as_fulfilled(self, bench: Bench) -> None:
        await bench.call(promise_create("p", timeout_at=START + 50))
        bench.store.gate.clear()
        in_the_way = asyncio.create_task(bench.call(promise_create("in the way")))
        await asyncio.sleep(0.01)
        search = asyncio.create_task(bench.call(TaskSearch(state=TaskState.FULFILLED)))
        await asyncio.sleep(0)
        bench.now += 50
        bench.store.gate.set()
        assert [task.id for task in (await search).data.tasks] == ["p"]
        await in_the_way


async def owe(bench: Bench, *ids: str, result: Value = EMPTY) -> None:
    for id in ids:
        listen = PromiseRegisterListener(awaited=id, address=LISTENER)
        await bench.call(promise_create(id, target=None), listen, promise_settle(id, result=result))


def kept(bench: Bench) -> list[str]:
    return [owed.unblock.promise.id for owed in bench.store.unblocks("callers", "c1", 0)]


class TestOwed:
    async def test_an_unblock_is_sent_and_kept_until_it_is_delivered(self, bench: Bench) -> None:
        await owe(bench, "p")
        await bench.until(lambda: bench.notes.seen == [("unblock", "p")])
        assert kept(bench) == ["p"]

        bench.engine.delivered(("p", LISTENER))
        await bench.call(promise_create("with the next commit"))

        assert kept(bench) == []

    async def test_messages_that_no_worker_fetches_are_eventually_forgotten(self, bench: Bench) -> None:
        await owe(bench, "p")
        bench.now += 60 * SECOND

        bench.engine.forget_stale_unblocks(kept_seconds=60)
        await bench.settle_down()
        assert kept(bench) == ["p"]
        bench.now += 1
        bench.engine.forget_stale_unblocks(kept_seconds=60)
        await bench.settle_down()
        assert kept(bench) == []

    async def test_after_a_restart_what_is_kept_reaches_whoever_connects(self) -> None:
        async with Bench().at_work() as bench:
            await owe(bench, "p")

        again = Bench(bench.store)
        hub = hub_of(again.engine)
        async with again.at_work(hub):
            listener = hub.connect("callers", "c1")
            messages = await listener.wait(PATIENCE_S)
        assert [message.promise.id for message in messages if isinstance(message, Unblock)] == ["p"]

    @pytest.mark.parametrize(
        ("size", "expected"),
        [(MAX_UNBLOCK_BYTES, ["a", "b", "c", "d"]), (MAX_UNBLOCK_BYTES // 2, ["a", "b", "c", "d"]), (0, ["abc", "d"])],
    )
    async def test_owed_messages_are_given_in_portions_of_limited_size_and_number(
        self, bench: Bench, size: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resonate_server.engine.engine.MAX_UNBLOCKS", 3)
        await owe(bench, *"abcd", result=value("x" * size))

        portions: list[str] = []
        after, complete = 0, False
        while not complete:
            bench.engine.request_unblocks("callers", "c1", after)
            await bench.settle_down()
            _, _, _, owed, complete = bench.notes.given[-1]
            after = owed[-1].place
            portions.append("".join(each.unblock.promise.id for each in owed))
        assert portions == expected

    async def test_queued_tasks_are_handed_out_on_demand(self, bench: Bench) -> None:
        await bench.call(*map(promise_create, "abc"), task_acquire("b"))

        bench.engine.request_refill("workers", 10)
        await bench.settle_down()

        [(group, messages, complete)] = bench.notes.refills
        assert (group, complete) == ("workers", True)
        assert [message.task_id for message in messages] == ["a", "c"]
        bench.engine.request_refill("workers", 1)
        await bench.settle_down()
        _, messages, complete = bench.notes.refills[-1]
        assert ([message.task_id for message in messages], complete) == (["a"], False)

    @pytest.mark.parametrize("whole_commit", [True, False])
    async def test_a_store_that_failed_once_does_not_cut_a_group_off(self, whole_commit: bool) -> None:
        """Work that waits for the group reaches the next worker that connects after the store has recovered."""
        bench = Bench(WatchedDatabase())
        hub = hub_of(bench.engine)
        async with bench.at_work(hub):
            await bench.call(promise_create("t", target="poll://uni@workers/w2"))
            await bench.settle_down()
            bench.store.down, bench.store.refill_fails = whole_commit, 0 if whole_commit else 1
            hub.connect("workers", "w1")
            await bench.settle_down()
            bench.store.down = False

            worker = hub.connect("workers", "w2")

            messages = await worker.wait(PATIENCE_S / 3)
            assert [message.task_id for message in messages if isinstance(message, Execute)] == ["t"]


OFFER = Execute(task_id="t", version=0, target=TARGET)


class TestUnclaimed:
    async def test_the_task_is_sent_again_after_its_pause(self, bench: Bench) -> None:
        await bench.call(promise_create("t"))
        bench.engine.unclaimed("workers", PID, [OFFER])
        await bench.settle_down()
        assert bench.notes.seen == [("execute", "t"), ("withdraw", "t")]
        bench.now += 5_000
        await bench.until(lambda: bench.notes.seen[2:] == [("execute", "t")])

    async def test_the_task_is_sent_at_once_if_a_worker_connects(self, bench: Bench) -> None:
        await bench.call(promise_create("t"))
        bench.engine.unclaimed("workers", PID, [OFFER])
        bench.engine.request_recall("workers")
        await bench.until(lambda: bench.notes.seen[2:] == [("execute", "t")])

    @pytest.mark.parametrize(("held", "told"), [([promise_create("u"), task_acquire("u")], [PID]), ([], [])])
    async def test_delivery_is_told_whether_the_process_is_at_work(
        self, bench: Bench, held: list[Request], told: list[str]
    ) -> None:
        await bench.call(promise_create("t"), *held)
        bench.engine.unclaimed("workers", PID, [OFFER])
        await bench.settle_down()

        assert bench.notes.at_work == told


class TestReset:
    @pytest.mark.parametrize("before", [[], [DebugStart()]])
    async def test_delivery_is_reset_even_when_idle(self, bench: Bench, before: list[Request]) -> None:
        await bench.call(*before, DebugReset())
        assert bench.notes.seen == [("reset", "")]

    async def test_an_earlier_delivery_does_not_remove_a_message_created_after_the_reset(self, bench: Bench) -> None:
        bench.engine.delivered(("p", LISTENER))
        await bench.call(DebugReset())
        await owe(bench, "p")
        await bench.call(promise_create("with the next commit"))

        assert kept(bench) == ["p"]


async def test_tasks_of_a_holder_that_is_gone_are_given_to_others(bench: Bench) -> None:
    """Section 9, item 4."""
    await bench.call(promise_create("t"), task_acquire("t"))
    bench.engine.worker_gone("workers", PID)
    await bench.until(lambda: bench.notes.seen[-1] == ("execute", "t"))
    assert (await bench.call(TaskGet(id="t"))).data.task.state is TaskState.PENDING


async def test_the_time_in_which_a_server_stood_still_does_not_count_for_leases(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.call(promise_create("t"), task_acquire("t", ttl=3 * SECOND))
    bench.now += 60 * SECOND
    await bench.until(lambda: "all leases last longer" in caplog.text)
    assert (await bench.call(TaskGet("t"))).data.task.state is TaskState.ACQUIRED


async def test_leases_start_afresh_when_a_server_starts() -> None:
    async with Bench().at_work() as bench:
        await bench.call(promise_create("t"))
        claimed = await bench.call(task_acquire("t", ttl=LEASE_MS))
    restarted = Bench(bench.store)
    restarted.now = bench.now + 100 * claimed.data.task.ttl

    async with restarted.at_work():
        task = (await restarted.call(TaskGet(id="t"))).data.task

        assert (task.state, task.version) == (TaskState.ACQUIRED, 1)
        await restarted.settle_down()
        restarted.now += claimed.data.task.ttl
        await restarted.until(lambda: ("execute", "t") in restarted.notes.seen)
        assert (await restarted.call(TaskGet(id="t"))).data.task.state is TaskState.PENDING


async def test_leases_restart_in_portions_and_one_that_cannot_holds_up_neither_the_others_nor_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("resonate_server.engine.engine.MAX_LEASES", 2)
    monkeypatch.setattr("resonate_server.engine.engine.MAX_CLAIMS", 3)
    bench, ids = Bench(), [f"t{number}" for number in range(7)]
    async with bench.at_work():
        for id in ids:
            claimed = await bench.call(promise_create(id), task_acquire(id, ttl=SECOND))
    bench.store.poisoned = "t4"
    restarted = Bench(bench.store)
    restarted.now = bench.now + 10 * SECOND

    async with restarted.at_work():
        held = {id for id in ids if (await restarted.call(TaskGet(id=id))).data.task.state is TaskState.ACQUIRED}
        assert held == {*ids}
        await restarted.until(lambda: caplog.text.count("changed nothing") > 1)  # first with its portion, then alone
        bench.store.poisoned = None
        await restarted.until(lambda: ("execute", "t4") in restarted.notes.seen)
        assert [id for what, id in restarted.notes.seen if what == "execute"] == ["t4"]
    assert claimed.status == 200
