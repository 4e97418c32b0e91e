"""Suspensions that wait a moment for their awaited promises: protocol section 3.2."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from unit.driver import promise_create, promise_settle, task_acquire, task_suspend
from unit.engines import Bench

from resonate_server.engine import patience
from resonate_server.engine.patience import Patience
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import TaskGet, TaskSuspend

FOR_EVER_MS = 10**9
LONG_S = 10**6


def suspend(*awaited: str, patience: int = FOR_EVER_MS) -> TaskSuspend:
    return task_suspend("caller", 1, *awaited, patience=patience)


async def begin(bench: Bench, *called: str) -> None:
    await bench.call(*map(promise_create, ("caller", *called)))
    await bench.call(task_acquire("caller"))


async def under_way(bench: Bench, request: TaskSuspend) -> asyncio.Task[Answer]:
    asked = asyncio.create_task(bench.call(request))
    await bench.settle_down()
    return asked


async def state(bench: Bench) -> TaskState:
    state: TaskState = (await bench.call(TaskGet(id="caller"))).data.task.state
    return state


class TestSuspension:
    async def test_continues_with_a_promise_settled_meanwhile(self, bench: Bench) -> None:
        await begin(bench, "a", "b")
        asked = await under_way(bench, suspend("a", "b"))
        assert await state(bench) is TaskState.ACQUIRED
        await bench.call(promise_settle("b"))
        assert (await asked).status == 300
        assert await state(bench) is TaskState.ACQUIRED

    async def test_does_not_wait_for_a_promise_settled_before(self, bench: Bench) -> None:
        await begin(bench, "a")
        await bench.call(promise_settle("a"))
        assert (await bench.call(suspend("a"))).status == 300

    @pytest.mark.parametrize("patience", [0, 1])
    async def test_takes_effect_when_its_patience_ends(self, bench: Bench, patience: int) -> None:
        await begin(bench, "a")
        assert (await bench.call(suspend("a", patience=patience))).status == 200
        assert await state(bench) is TaskState.SUSPENDED

    async def test_is_decided_when_another_server_reports_a_settlement(self, bench: Bench) -> None:
        await begin(bench, "a")
        asked = await under_way(bench, suspend("a"))
        bench.engine.settled_elsewhere(["a"])
        assert (await asked).status == 200, "so it is here"

    async def test_is_told_of_settlements_elsewhere_but_for_roots_which_few_wait_for(self, bench: Bench) -> None:
        await bench.call(promise_create("root", parent="root"), promise_create("root.call", parent="root"))
        await bench.call(promise_settle("root.call"), promise_settle("root"))
        assert bench.notes.announced == ["root.call"]

    async def test_is_refused_if_its_lease_is_lost_meanwhile(self, bench: Bench) -> None:
        await begin(bench, "a")
        asked = await under_way(bench, suspend("a"))
        await bench.call(promise_settle("caller"), promise_settle("a"))
        assert (await asked).status == 409

    async def test_is_decided_before_the_server_stops(self) -> None:
        bench = Bench()
        async with bench.at_work():
            await begin(bench, "a")
            asked = await under_way(bench, suspend("a"))
        assert (await asked).status == 200


async def begun(waiting: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(waiting)
    await asyncio.sleep(0)
    return task


class TestPatience:
    async def test_ends_for_all_waiters_with_the_first_settlement(self) -> None:
        waiting = Patience()
        both = [await begun(waiting.wait(ids, LONG_S)) for ids in (["a", "b"], ["c", "b"])]
        waiting.settled(["b"])
        await asyncio.gather(*both)

    async def test_remembers_the_latest_settlements(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patience, "MAX_REMEMBERED", 2)
        waiting = Patience()
        waiting.settled("abc")
        await waiting.wait(["b"], LONG_S)
        forgotten = await begun(waiting.wait(["a"], LONG_S))
        assert not forgotten.done()
        waiting.end()
        await forgotten

    async def test_does_not_apply_to_tasks_that_await_many_promises(self) -> None:
        await Patience().wait([str(number) for number in range(patience.MAX_AWAITED + 1)], LONG_S)

    async def test_is_limited_to_a_number_of_waiters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(patience, "MAX_WAITED_FOR", 1)
        waiting = Patience()
        first = await begun(waiting.wait(["a"], LONG_S))
        await waiting.wait(["b"], LONG_S)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = await begun(waiting.wait(["b"], LONG_S))
        assert not second.done(), "whoever leaves makes room"
        waiting.end()
        await second
