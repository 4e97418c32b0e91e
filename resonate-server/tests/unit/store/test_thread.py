"""The thread beside the event loop: it does jobs one after another and returns their results."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from resonate_server.store.sqlite.thread import WorkThread


@pytest.fixture
async def thread() -> AsyncIterator[WorkThread]:
    thread = WorkThread("beside")
    thread.start()
    yield thread
    thread.stop()


def fail() -> None:
    raise ValueError("no number today")


async def test_the_result_or_exception_of_a_job_comes_back(thread: WorkThread) -> None:
    assert await thread.run(lambda: 3) == 3
    with pytest.raises(ValueError, match="no number today"):
        await thread.run(fail)
    assert await thread.run(lambda: threading.current_thread().name) == "beside"


async def test_jobs_are_done_in_the_order_requested(thread: WorkThread) -> None:
    done: list[int] = []
    await asyncio.gather(*(thread.run(lambda number=number: done.append(number)) for number in range(50)))  # type: ignore[misc]
    assert done == list(range(50))


async def test_one_that_gives_up_disturbs_nobody(thread: WorkThread, caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    first = thread.run(gate.wait)
    second = thread.run(fail)
    first.cancel()
    second.cancel()
    gate.set()
    assert await thread.run(lambda: 3) == 3
    assert caplog.messages == []


async def test_closing_waits_for_the_job_that_has_begun() -> None:
    thread, gate, done = WorkThread("ending"), threading.Event(), list[int]()

    def finish() -> None:
        gate.wait(60)
        done.append(1)

    thread.start()
    thread.run(finish)
    threading.Timer(0.1, gate.set).start()
    thread.stop()
    assert done == [1]
    assert "ending" not in [each.name for each in threading.enumerate()]


async def test_the_thread_does_not_keep_a_process_from_exiting(thread: WorkThread) -> None:
    assert await thread.run(lambda: threading.current_thread().daemon)
