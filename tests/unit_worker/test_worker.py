"""A worker in this process and a real server: calls run, held tasks are released, and the log reports it."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from harness.server import ServerProcess
from resonate.context import Context
from resonate.error import ApplicationError, ResonateError
from resonate.retry import Constant

from worker import Worker, ending_signals, log_run, worker
from worker.health import is_fresh
from worker.replay import FUNCTION_TAG
from worker.stream import ServerClock

from .group import Group, Told, launched, until


async def double(ctx: Context, number: int) -> int:
    log_run(ctx)
    return 2 * number


async def without_context(item: str) -> str:
    return item


async def with_nothing() -> None:
    pass


def with_yield(ctx: Context) -> Iterator[Any]:
    yield ctx.run(double, 1)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"func": "duoble", "version": 1}, "function 'duoble' is not known to this worker"),
        ({"func": "double", "version": 2}, "version 2 of function 'double' is not known to this worker"),
        ("double it", "decoding error: invalid task data: serialization error: Expected `object`, got `str`"),
    ],
)
async def test_a_call_that_it_cannot_run_is_released_with_the_reason(group: Group, call: Any, reason: str) -> None:
    await group.work(double)
    id = group.begin_as(call)
    await until(lambda: group.task(id).get("reason") is not None)
    assert group.task(id)["reason"] == reason


@pytest.mark.parametrize(
    ("group_name", "functions", "reason"),
    [
        ("shop", (double, double), "each function needs a name of its own: double"),
        ("shop", (lambda ctx: ctx,), "each function needs a name of its own: <lambda>"),
        ("shop", (without_context,), "without_context must take its Context first"),
        ("shop", (with_nothing,), "with_nothing must take its Context first"),
        ("shop", (with_yield,), "with_yield is a generator: write async def with_yield"),
        ("shop", ("double",), "this is not a function: 'double'"),
        ("my shop", (double,), "a group's name has no blanks"),
        ("my/shop", (double,), "a group's name has no blanks"),
        ("", (double,), "a group's name has no blanks"),
    ],
)
def test_a_worker_that_could_not_serve_is_refused_where_it_is_made(
    group_name: str, functions: tuple[Any, ...], reason: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=reason):
        Worker(group_name, *functions)


def test_a_worker_without_functions_does_not_run() -> None:
    with pytest.raises(ValueError, match="the worker of shop has no functions"):
        Worker("shop").run()


async def test_a_call_that_misses_its_deadline_or_is_cancelled_says_so_to_its_caller(group: Group) -> None:
    async def order(ctx: Context, seconds: float) -> str:
        try:
            return str(await ctx.options(target="nobody", timeout=timedelta(seconds=seconds)).rpc("pack"))
        except ApplicationError as error:
            return str(error)

    await group.work(order)
    late, cancelled = group.begin("order", 0.1), group.begin("order", 60)
    await group.waits(cancelled)
    group.settle_as(f"{cancelled}:1", "rejected_canceled", b"null")
    assert await group.result(late) == f"{late}:1 was not settled before its deadline"
    assert await group.result(cancelled) == f"{cancelled}:1 was cancelled"


async def test_arguments_that_its_function_does_not_take_fail_the_call(group: Group) -> None:
    await group.work(double)
    assert (await group.result(group.begin("double", 1, 2)))["message"] == "double: too many positional arguments"


async def test_a_failing_function_or_step_is_tried_three_times_and_then_its_caller_gets_the_error(
    group: Group, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_POLICY", Constant(max_retries=worker.RETRY_POLICY.max_retries, delay=0))
    attempts = 0

    async def fail(ctx: Context) -> None:  # noqa: ARG001
        nonlocal attempts
        attempts += 1
        raise ValueError("no number today")

    async def order(ctx: Context) -> str:
        try:
            await ctx.run(fail)
        except ApplicationError as error:
            return f"not ordered: {error}"
        return "ordered"

    await group.work(fail, order)
    assert await group.result(group.begin("order")) == "not ordered: no number today"
    assert attempts == 3
    id = group.begin("fail")
    assert (await group.result(id))["message"] == "no number today"
    assert attempts == 6
    await until(lambda: told("attempt=1  seconds=0.") and told("ValueError: no number today"))
    assert told("ValueError: no number today; retrying")


async def test_the_promise_of_a_local_step_names_its_function(group: Group) -> None:
    async def order(ctx: Context) -> int:
        by_itself: int = await ctx.run(double, 1)
        by_name: int = await ctx.run("double", 2)
        return by_itself + by_name

    await group.work(order, double)
    id = group.begin("order")
    assert await group.result(id) == 6
    tags = [group.promise(f"{id}:{number}")["tags"] for number in (1, 2)]
    assert [each[FUNCTION_TAG] for each in tags] == ["double", "double"]
    assert {each["resonate:scope"] for each in tags} == {"local"}


async def test_a_step_is_logged_when_its_result_is_stored(group: Group, told: Told) -> None:
    until_told = asyncio.Event()

    async def order(ctx: Context) -> int:
        doubled: int = await ctx.run(double, 1)
        await until_told.wait()
        return doubled

    await group.work(order)
    id = group.begin("order")
    await until(lambda: told(f"ended function double  promise={id}:1  attempt=1"))
    assert told("result: 2")
    until_told.set()
    assert await group.result(id) == 2


async def test_no_more_tasks_run_at_a_time_than_there_are_places(group: Group, told: Told) -> None:
    running, go_on = 0, asyncio.Event()

    async def count(ctx: Context) -> str:  # noqa: ARG001
        nonlocal running
        running += 1
        await go_on.wait()
        return "done"

    await group.work(count, places=2)
    ids = [group.begin("count") for _ in range(4)]
    await until(lambda: told("all 2 places are taken"))
    assert running == 2
    go_on.set()
    for id in ids:
        await group.result(id)
    assert running == 4
    await until(lambda: told("further tasks no longer wait"))


async def test_full_places_are_logged_only_if_that_lasts(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    """On a busy worker, places are freed and taken all the time."""
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.001)
    shortages = iter(["", "all 3 places are taken"] * 20)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await worker.report_shortage(lambda: next(shortages))
    assert not told("places")


async def test_its_health_file_is_kept_fresh_while_it_is_connected(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.01)
    running = await group.work(double)
    os.utime(group.health_file, (0, 0))
    await until(lambda: is_fresh(group.health_file))
    await running.stop()
    assert not group.health_file.exists()


async def test_deadlines_are_in_the_servers_time_whatever_the_worker_s_clock_shows(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ServerClock(uptime=lambda: 0, wall=lambda: 0)
    monkeypatch.setattr("worker.stream.ServerClock", lambda: clock)

    async def wait(ctx: Context) -> str:
        await ctx.sleep(timedelta(seconds=1))
        return "done"

    await group.work(wait)
    await until(lambda: clock() > 0)
    began = clock()
    id = group.begin("wait")
    assert await group.result(id) == "done"
    assert began + 1_000 <= group.promise(f"{id}:1")["timeoutAt"] < began + 60_000


async def test_a_worker_that_stops_under_load_releases_its_tasks_and_logs_only_that(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begun = cleaned_up = 0

    async def take_long(ctx: Context) -> None:
        nonlocal begun, cleaned_up
        log_run(ctx)
        begun += 1
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned_up += 1

    running = await group.work(take_long, places=3)
    id, *_ = [group.begin("take_long") for _ in range(20)]
    await until(lambda: begun == 3)
    await running.stop()
    assert group.task(id)["state"] == "pending"
    assert cleaned_up == 3
    assert not running.stream.connected
    after = [message.partition("  seconds=")[2][7:] or message for message in caplog.messages]
    after = after[after.index("shutting down") + 1 :]
    assert after == ["given back: the worker stops"] * 3 + ["released 3 tasks for other workers"]
    with pytest.raises(ResonateError):
        await running.resonate.promises.sender.promise_get(id)


FINISHING = """
from worker import Worker

async def finish(ctx):
    return "done"

Worker("finishing", finish).run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_serves_until_it_is_told_to_end_and_then_ends_at_once(
    server: ServerProcess, tmp_path: Path, number: signal.Signals
) -> None:
    finishing, id = launched(tmp_path, FINISHING, RESONATE_URL=server.url, MAX_TASKS="1"), f"finish-{number}"
    server.client().begin(id, "finishing", "finish")
    assert server.client().result(id) == "done"
    assert finishing.end(number)[0] == 0
    assert "shutting down" in finishing.output()


def test_a_process_started_by_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in ending_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in ending_signals()


BLOCKING = """
import time
from worker import Worker, log_run

async def block(ctx):
    log_run(ctx)
    time.sleep(3600)

Worker("blocking", block).run()
"""


def test_a_worker_whose_function_blocks_its_loop_ends_nevertheless(server: ServerProcess, tmp_path: Path) -> None:
    """It ignored all signals but SIGKILL, and Ctrl-C."""
    blocked = launched(tmp_path, BLOCKING, RESONATE_URL=server.url)
    server.client().begin("stuck", "blocking", "block")
    blocked.wait_for("running function block")
    assert blocked.end()[0] == 1
    assert "a function blocks the event loop: ending without it" in blocked.output()
