"""What works beside the event loop: the operating system's kernel, which says when a file is on disk or why it is not,
and a thread that does jobs one after another.
"""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from resonate_server.store.sqlite import log
from resonate_server.store.sqlite.log import KernelSync, kernel_sync
from resonate_server.store.sqlite.thread import WorkThread


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "synced", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def opened(file: int) -> KernelSync:
    kernel = kernel_sync(file)
    if kernel is None:
        pytest.skip("this system lets a thread wait")
    return kernel


async def test_a_sync_can_be_repeated(file: int) -> None:
    kernel = opened(file)
    for _ in range(3):
        os.write(file, bytes(10_000))
        await kernel.sync()
    kernel.close()


async def test_a_disk_error_is_raised_by_the_wait(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = opened(file)
    monkeypatch.setattr(kernel, "_outcome", log._Outcome(result=-errno.EIO))
    monkeypatch.setattr(log, "_call", lambda *_: None)
    done = kernel.sync()
    os.eventfd_write(kernel._event, 1)
    with pytest.raises(OSError, match="Input/output error"):
        await done
    monkeypatch.undo()
    kernel.close()


async def test_a_sync_that_nobody_waits_for_disturbs_nobody(file: int) -> None:
    kernel = opened(file)
    kernel.sync().cancel()
    kernel.close()


async def test_there_is_no_sync_without_a_file_or_without_kernel_support(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel_sync(None) is None
    reading, writing = os.pipe()
    assert kernel_sync(reading) is None
    os.close(reading)
    os.close(writing)
    monkeypatch.setattr("platform.machine", lambda: "unheard-of")
    assert kernel_sync(file) is None


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
