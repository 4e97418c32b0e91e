"""The health file, and the command that looks at it."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from worker import health
from worker.health import HealthFile


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEALTH_FILE", str(tmp_path / "health"))
    return tmp_path / "health"


def is_healthy() -> bool:
    try:
        health.main()
    except SystemExit:
        return False
    return True


def test_it_is_there_while_connected(path: Path) -> None:
    file = HealthFile(path)
    assert not path.exists()
    file.show(connected=True)
    assert is_healthy()
    file.show(connected=False)
    assert not is_healthy()


def test_a_file_that_is_not_touched_any_more_is_no_good_sign(path: Path) -> None:
    HealthFile(path).show(connected=True)
    os.utime(path, (time.time() - 6, time.time() - 6))
    assert not is_healthy()


async def test_it_is_kept_fresh_only_while_connected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BEAT_SECONDS", 0.01)
    file = HealthFile(path)
    beating = asyncio.create_task(file.keep_fresh())
    file.show(connected=True)
    os.utime(path, (0, 0))
    async with asyncio.timeout(60):
        while not is_healthy():
            await asyncio.sleep(0.01)
    file.show(connected=False)
    await asyncio.sleep(0.1)
    assert not path.exists()
    beating.cancel()


def test_the_command_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEALTH_FILE", raising=False)
    with pytest.raises(SystemExit, match="not set"):
        health.main()
