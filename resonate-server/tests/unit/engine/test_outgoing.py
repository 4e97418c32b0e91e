"""Large answers share a budget: those beyond it wait until earlier ones have left, while small ones pass."""

import asyncio

import pytest
from unit.driver import CORR_ID, promise_create, task_acquire, value
from unit.engines import Bench

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.requests import PromiseGet, PromiseSearch, Request
from resonate_server.store import outgoing
from resonate_server.store.outgoing import LARGE_BYTES, MAX_OUTGOING_BYTES, weighed

HUGE = value("x" * (MAX_OUTGOING_BYTES // 4))
FITTING = 4
"""Number of huge answers that fill the budget."""


def submit(bench: Bench, request: Request) -> asyncio.Future[Answer]:
    return bench.engine.submit(CheckedRequest(corr_id=CORR_ID, request=request))


async def filled(bench: Bench, more: int = 0) -> list[asyncio.Future[Answer]]:
    """Request as many huge promises as fit, and ``more``; no answer has been written out yet."""
    for number in range(FITTING + more):
        bench.engine.answered(await bench.call(promise_create(f"huge-{number}", param=HUGE)))
    asked = [submit(bench, PromiseGet(id=f"huge-{number}")) for number in range(FITTING + more)]
    await asyncio.wait(asked[:FITTING])
    return asked


async def test_an_answer_that_does_not_fit_waits_until_others_have_left() -> None:
    async with Bench().at_work() as bench:
        asked = await filled(bench, more=2)
        await bench.settle_down()
        assert [each.done() for each in asked] == [True] * FITTING + [False] * 2

        bench.engine.answered(asked[0].result())
        await bench.until(asked[FITTING].done)
        await bench.settle_down()

        assert not asked[-1].done()
        bench.engine.answered(asked[1].result())
        await bench.until(asked[-1].done)
        assert asked[-1].result().data.promise.param == HUGE


async def test_a_task_can_be_claimed_meanwhile_but_without_its_preload() -> None:
    async with Bench().at_work() as bench:
        await bench.call(promise_create("t", branch="t"), promise_create("t:1", target=None, branch="t"))
        await filled(bench)
        answer = await bench.call(task_acquire("t"))
        assert (answer.status, answer.data.preload) == (200, [])


async def test_searches_wait_too() -> None:
    async with Bench().at_work() as bench:
        asked = await filled(bench)
        search = submit(bench, PromiseSearch())
        await bench.settle_down()
        assert not search.done()

        bench.engine.answered(asked[0].result())
        await bench.until(search.done)

        assert search.result().status == 200


async def test_answers_of_a_failed_transaction_do_not_count() -> None:
    async with Bench().at_work() as bench:
        asked = await filled(bench)
        for each in asked:
            bench.engine.answered(each.result())
        bench.store.down = True
        failed = [submit(bench, promise_create(f"lost-{number}", param=HUGE)) for number in range(2 * FITTING)]
        await asyncio.wait(failed)
        bench.store.down = False

        assert {each.result().status for each in failed} <= {503}
        assert (await bench.call(PromiseGet(id="huge-0"))).data.promise.param == HUGE


async def test_beyond_a_limit_large_answers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MAX_HELD_BACK", 1)
    async with Bench().at_work() as bench:
        asked = await filled(bench, more=2)
        await bench.until(asked[-1].done)
        assert asked[-1].result() == Answer(503, "too many large answers are under way; try again later")
        assert not asked[-2].done()


async def test_requests_that_still_wait_when_the_server_stops_are_told_so() -> None:
    async with Bench().at_work() as bench:
        asked = await filled(bench, more=1)
        await bench.settle_down()
    assert asked[-1].result().status == 503


def test_only_large_answers_have_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    small, weight = Answer(status=200, data=None), LARGE_BYTES
    monkeypatch.setattr(outgoing, "answer_weight", lambda _: weight)
    assert weighed(small) == small
    weight += 1
    assert weighed(small) == Answer(status=200, data=None, weight=LARGE_BYTES + 1)
