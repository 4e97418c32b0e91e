"""Functions that end in ways that the SDK does not expect: their callers hear of it, and the worker continues."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.server import ServerProcess, encoded
from resonate.context import Context
from resonate.error import ApplicationError
from resonate.retry import Constant

from worker import worker
from worker.seams import MAX_VALUE_BYTES
from worker.values import MAX_MESSAGE_CHARACTERS

from .group import Group, launched

type Function = Callable[[Context], Any]


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


def raises(error: BaseException | type[BaseException]) -> Function:
    def fail(ctx: Context) -> None:  # noqa: ARG001
        raise error

    return fail


async def awaits_what_was_cancelled(ctx: Context) -> None:  # noqa: ARG001
    cancelled = asyncio.ensure_future(asyncio.sleep(0))
    cancelled.cancel()
    await cancelled


async def cancels_itself(ctx: Context) -> None:  # noqa: ARG001
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def forgets_the_context(ctx: Context) -> Any:
    def fetch(url: str) -> str:
        return url

    return ctx.run(fetch, "http://localhost")  # type: ignore[call-overload]


def breaks_its_word(ctx: Context) -> Any:
    async def count(ctx: Context) -> int:  # noqa: ARG001
        return "many"  # type: ignore[return-value]

    return ctx.run(count)


async def asks_too_much_in_a_task_group(ctx: Context) -> None:
    async def ask() -> None:
        await nobody(ctx).rpc("answer", object())

    async with asyncio.TaskGroup() as asking:
        asking.create_task(ask())


async def leaves_alone_what_it_asked_for(ctx: Context) -> None:
    nobody(ctx).rpc("answer", object())


async def calls_nobody_in_the_background(ctx: Context) -> None:
    ctx.options(target="").detached("answer")


def nobody(ctx: Context) -> Context:
    return ctx.options(target="nobody")


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
TOO_MUCH = "x" * MAX_VALUE_BYTES
NOT_A_GROUP = "server error (code=400): not a poll address: 'poll://any@'"
CANNOT_ENCODE = "the arguments of answer cannot be stored: serialization error: cannot encode"

ODD: dict[str, tuple[Function, str]] = {
    # What the function does, and how the message begins that its caller gets.
    "exits": (lambda _: sys.exit(3), "the function ended with SystemExit: 3"),
    "is_interrupted": (raises(KeyboardInterrupt), "the function ended with KeyboardInterrupt"),
    "raises_a_generator_s_end": (raises(GeneratorExit), "the function ended with GeneratorExit"),
    "raises_a_base_exception": (raises(Odd("not an Exception")), "the function ended with Odd: not an Exception"),
    "awaits_what_was_cancelled": (awaits_what_was_cancelled, "the function ended with CancelledError"),
    "cancels_itself": (cancels_itself, "the function ended with CancelledError"),
    "raises_what_cannot_be_shown": (raises(Mute), "its message cannot be shown"),
    "raises_what_ends_whoever_shows_it": (raises(Deadly), "its message cannot be shown"),
    "returns_an_object": (
        lambda _: object(),
        "the result of returns_an_object cannot be stored: serialization error: cannot encode object",
    ),
    "returns_what_contains_itself": (
        lambda _: ENDLESS,
        "the result of returns_what_contains_itself cannot be stored: ",
    ),
    "returns_too_much": (
        lambda _: TOO_MUCH,
        "the result of returns_too_much cannot be stored: 5581488 bytes in base64, the limit is 4186112",
    ),
    "returns_what_it_did_not_await": (
        lambda ctx: [ctx.run("exits")],
        "the result of returns_what_it_did_not_await cannot be stored: serialization error: "
        "cannot encode object of type Task; is an `await` missing?",
    ),
    "forgets_the_context": (
        forgets_the_context,
        "fetch must take its Context first: async def fetch(ctx: Context, ...)",
    ),
    "breaks_its_word": (breaks_its_word, "serialization error: Expected `int`, got `str`"),
    "passes_it_on": (
        lambda ctx: nobody(ctx).rpc("answer", ENDLESS),
        "the arguments of answer cannot be stored: ",
    ),
    "leaves_alone_what_it_asked_for": (leaves_alone_what_it_asked_for, CANNOT_ENCODE),
    "asks_in_vain_in_the_background": (
        lambda ctx: nobody(ctx).detached("answer", TOO_MUCH),
        "the arguments of answer cannot be stored: 5581",
    ),
    "calls_nobody": (lambda ctx: ctx.options(target="").rpc("answer"), NOT_A_GROUP),
    "calls_nobody_in_the_background": (calls_nobody_in_the_background, NOT_A_GROUP),
    "calls_what_has_no_name": (
        lambda ctx: nobody(ctx).rpc("\ud800"),
        "the arguments of \\ud800 cannot be stored: serialization error: 'utf-8' codec",
    ),
    "asks_too_much_in_a_task_group": (
        asks_too_much_in_a_task_group,
        "unhandled errors in a TaskGroup (1 sub-exception): the arguments of answer cannot",
    ),
}
for _name, (_function, _) in ODD.items():
    _function.__name__ = _name


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RETRY_POLICY", Constant(max_retries=0, delay=0))


async def test_the_caller_of_a_function_that_ends_oddly_hears_of_it(
    caplog: pytest.LogCaptureFixture, group: Group
) -> None:
    """What could not be stored was made again and again, and its caller waited for it for a day."""
    caplog.set_level(logging.CRITICAL)  # xdist could not pass on what it captures of a text that is not Unicode

    async def in_a_step(ctx: Context, function: str) -> Any:
        return await ctx.run(function)

    await group.work(*(function for function, _ in ODD.values()), in_a_step)
    begun = [(message, group.begin(name), group.begin("in_a_step", name)) for name, (_, message) in ODD.items()]
    for message, *ids in begun:
        for id in ids:
            assert (await group.result(id))["message"].startswith(message)


@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        pytest.param("", "ValueError", id="empty"),
        pytest.param(f"no {b'caf\xe9'.decode(errors='surrogateescape')}", r"no caf\udce9", id="not unicode"),
        pytest.param("x" * 10_000_000, "x" * (MAX_MESSAGE_CHARACTERS - 1) + "…", id="endless"),
    ],
)
async def test_every_message_of_an_error_arrives_with_the_name_of_its_class_and_nothing_else(
    caplog: pytest.LogCaptureFixture, group: Group, text: str, arrives: str
) -> None:
    caplog.set_level(logging.CRITICAL)  # xdist could not pass on what it captures of a text that is not Unicode

    async def fail(ctx: Context) -> None:  # noqa: ARG001
        raise ValueError(text)

    async def fail_in_a_step(ctx: Context) -> str:
        try:
            await ctx.run(fail)
        except ApplicationError as error:
            return str(error)
        return "it did not fail"

    await group.work(fail, fail_in_a_step)
    outer = group.begin("fail_in_a_step")
    assert await group.result(outer) == arrives
    for id in (group.begin("fail"), f"{outer}:1"):
        assert await group.result(id) == {"__type": "error", "message": arrives, "name": "ValueError"}


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


RETURNING = """
import asyncio, os, sys
from worker import Worker

async def fork(ctx, ending):
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ending == "waits":
        await asyncio.sleep(60)
    return sys.exit(5) if ending == "exits" else "the child's"

Worker("returning", fork).run()
"""


@pytest.mark.parametrize(("ending", "status"), [("exits", 5), ("returns", 1), ("waits", 1)])
def test_a_forked_process_that_comes_back_from_its_function_is_no_second_worker(
    server: ServerProcess, tmp_path: Path, ending: str, status: int
) -> None:
    """It read the worker's messages, on the worker's own connections, so that neither had whole ones."""
    id = f"comes-back-{ending}"
    server.client().begin(id, "returning", "fork", ending)
    returning = launched(tmp_path, RETURNING, RESONATE_URL=server.url)
    try:
        assert server.client().result(id) == status
    finally:
        returning.kill()
