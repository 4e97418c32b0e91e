"""The operating system's kernel says when a file is on disk, or why it is not."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from resonate_server.store.sqlite import log
from resonate_server.store.sqlite.log import KernelSync, kernel_sync


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
