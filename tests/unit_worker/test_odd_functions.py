"""Functions that end in ways that the SDK does not expect: their callers hear of it, and the worker continues."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from harness.server import ServerProcess
from resonate.context import Context
from resonate.retry import Constant

from worker import log_run, worker
from worker.values import MAX_MESSAGE_CHARACTERS

from .group import Group, Told, encoded, launched, until

type Function = Callable[[Context], Awaitable[Any]]


class Odd(BaseException):
    """An error that `except Exception` does not catch."""


class Mute(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise self


class Deadly(Exception):
    """An error that ends the process when it is shown."""

    def __str__(self) -> str:
        sys.exit(3)


async def exits(ctx: Context) -> None:  # noqa: ARG001
    sys.exit(3)


async def is_interrupted(ctx: Context) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


async def raises_a_generator_s_end(ctx: Context) -> None:  # noqa: ARG001
    raise GeneratorExit


async def raises_a_base_exception(ctx: Context) -> None:  # noqa: ARG001
    raise Odd("not an Exception")


async def awaits_what_was_cancelled(ctx: Context) -> None:  # noqa: ARG001
    cancelled = asyncio.ensure_future(asyncio.sleep(0))
    cancelled.cancel()
    await cancelled


async def raises_what_cannot_be_shown(ctx: Context) -> None:  # noqa: ARG001
    raise Mute


async def raises_what_ends_whoever_shows_it(ctx: Context) -> None:  # noqa: ARG001
    raise Deadly


async def cancels_itself(ctx: Context) -> None:  # noqa: ARG001
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


ENDS: dict[Function, str] = {
    exits: "the function ended with SystemExit: 3",
    is_interrupted: "the function ended with KeyboardInterrupt",
    raises_a_generator_s_end: "the function ended with GeneratorExit",
    raises_a_base_exception: "the function ended with Odd: not an Exception",
    awaits_what_was_cancelled: "the function ended with CancelledError",
    cancels_itself: "the function ended with CancelledError",
    raises_what_cannot_be_shown: "its message cannot be shown",
    raises_what_ends_whoever_shows_it: "its message cannot be shown",
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY_POLICY", Constant(max_retries=0, delay=0))


@pytest.mark.parametrize("is_step", [False, True], ids=["the function", "a step"])
@pytest.mark.parametrize("odd", ENDS, ids=lambda function: function.__name__)
async def test_the_caller_of_a_function_that_raises_no_exception_gets_an_error(
    group: Group, odd: Function, is_step: bool
) -> None:
    async def order(ctx: Context) -> Any:
        log_run(ctx)
        return await ctx.run(odd) if is_step else await odd(ctx)

    await group.work(order)
    assert (await group.result(group.begin("order")))["message"] == ENDS[odd]


@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        pytest.param("", "ValueError", id="empty"),
        pytest.param(f"no {b'caf\xe9'.decode(errors='surrogateescape')}", r"no caf\udce9", id="not unicode"),
        pytest.param("x" * 10_000_000, "x" * (MAX_MESSAGE_CHARACTERS - 1) + "…", id="endless"),
    ],
)
async def test_every_message_of_an_error_arrives(group: Group, text: str, arrives: str) -> None:
    async def fail(ctx: Context) -> None:  # noqa: ARG001
        raise ValueError(text)

    await group.work(fail)
    failed = await group.result(group.begin("fail"))
    assert (failed["name"], failed["message"]) == ("ValueError", arrives)


async def test_who_stops_waiting_for_a_step_goes_on_and_ends_after_it(group: Group) -> None:
    steps: list[str] = []

    async def slow(ctx: Context, seconds: float) -> None:  # noqa: ARG001
        await asyncio.sleep(seconds)
        steps.append("slow")

    async def impatient(ctx: Context) -> str:
        try:
            await asyncio.wait_for(ctx.run(slow, 0.5), 0.1)
        except TimeoutError:
            await ctx.run(slow, 0)
        steps.append("late")
        return "late"

    await group.work(impatient)
    assert await group.result(group.begin("impatient")) == "late"
    assert steps == ["slow", "late", "slow"]


async def test_a_task_group_may_wait_for_calls(group: Group) -> None:
    """It raises a group of errors, which the SDK does not take for a suspension: the call failed."""

    async def order(ctx: Context) -> list[Any]:
        async def ask(what: str) -> Any:
            return await ctx.options(target="nobody").rpc(what)

        async with asyncio.TaskGroup() as asking:
            answers = [asking.create_task(ask(what)) for what in ("price", "date")]
        return [answer.result() for answer in answers]

    await group.work(order)
    id = group.begin("order")
    await group.waits(id)
    for number in (1, 2):
        group.settle(f"{id}:{number}", number)
    assert await group.result(id) == [1, 2]


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


async def returns_what_contains_itself(ctx: Context) -> Any:  # noqa: ARG001
    return ENDLESS


async def returns_an_object(ctx: Context) -> object:  # noqa: ARG001
    return object()


async def does_so_in_a_step(ctx: Context) -> Any:
    return await ctx.run(returns_what_contains_itself)


async def passes_it_on(ctx: Context) -> Any:
    return await ctx.options(target="nobody").rpc("answer", ENDLESS)


async def asks_too_much_in_a_task_group(ctx: Context) -> None:
    async def ask() -> None:
        await ctx.options(target="nobody").rpc("answer", object())

    async with asyncio.TaskGroup() as asking:
        asking.create_task(ask())


GIVEN_BACK: dict[Function, str] = {
    returns_an_object: "serialization error: cannot encode object of type object",
    returns_what_contains_itself: "serialization error: maximum recursion depth exceeded",
    does_so_in_a_step: "serialization error: maximum recursion depth exceeded",
    passes_it_on: "serialization error: maximum recursion depth exceeded",
    asks_too_much_in_a_task_group: "serialization error: cannot encode object of type object",
}


@pytest.mark.parametrize("odd", GIVEN_BACK, ids=lambda function: function.__name__)
async def test_a_task_whose_attempt_fails_is_given_back_with_the_reason(
    group: Group, odd: Function, told: Told
) -> None:
    """It was held for as long as the worker lived, and nobody ran it."""

    async def order(ctx: Context) -> Any:
        log_run(ctx)
        return await odd(ctx)

    await group.work(order)
    id = group.begin("order")
    await until(lambda: told("given back: "))
    await until(lambda: group.task(id).get("reason"))
    assert group.task(id)["reason"].startswith(GIVEN_BACK[odd])


async def test_a_function_that_logs_its_run_twice_is_not_taken_for_a_retry(group: Group, told: Told) -> None:
    async def twice(ctx: Context) -> int:
        log_run(ctx)
        log_run(ctx)
        return 3

    await group.work(twice)
    await group.result(group.begin("twice"))
    await until(lambda: told("result: 3"))
    assert not told("retrying")


ASKING = """
from worker import Worker, log_run

async def ask(ctx):
    log_run(ctx)
    return await ctx.options(target="nobody").rpc("answer", {"red", "green", "blue", "black"})

Worker("asking", ask).run()
"""


def test_a_set_among_the_arguments_is_the_same_step_in_another_process(server: ServerProcess, tmp_path: Path) -> None:
    """Each process has its own order of the strings in a set."""
    client = server.client()
    client.begin("sets", "asking", "ask")
    for seed, comes_to in (("1", "suspended, waits for sets:1"), ("2", "result: 7")):
        asking = launched(tmp_path, ASKING, RESONATE_URL=server.url, PYTHONHASHSEED=seed)
        asking.wait_for(comes_to)
        asking.kill()
        client.call("promise.settle", id="sets:1", state="resolved", value=encoded(7))


FORKING = """
import asyncio, multiprocessing, os, signal, time
from worker import Worker

os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))

def stop_a_child():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
    child.start()
    child.join()
    return child.exitcode

async def fork(ctx):
    return await asyncio.to_thread(stop_a_child)

Worker("forking", fork).run()
"""


def test_a_process_that_a_function_forks_ends_when_it_is_told_to(server: ServerProcess, tmp_path: Path) -> None:
    """As at the end of every pool of `multiprocessing`: it took itself for the worker, and ended after 3 s. Here it is
    told so at its very beginning."""
    server.client().begin("forks", "forking", "fork")
    forking = launched(tmp_path, FORKING, RESONATE_URL=server.url)
    assert server.client().result("forks") == -signal.SIGTERM
    assert "a function blocks" not in forking.output()
    forking.kill()
