"""The health file, and the command that looks at it."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from worker import health
from worker.health import HealthFile, is_healthy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "health"


def test_it_is_there_while_connected(path: Path) -> None:
    file = HealthFile(path)
    assert not path.exists()
    file.show(connected=True)
    assert is_healthy(path)
    file.show(connected=False)
    assert not is_healthy(path)


def test_a_file_that_is_not_touched_any_more_is_no_good_sign(path: Path) -> None:
    HealthFile(path).show(connected=True)
    os.utime(path, (time.time() - 6, time.time() - 6))
    assert not is_healthy(path)


async def test_it_is_kept_fresh_only_while_connected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BEAT_SECONDS", 0.01)
    file = HealthFile(path)
    beating = asyncio.create_task(file.keep_fresh())
    file.show(connected=True)
    os.utime(path, (0, 0))
    async with asyncio.timeout(60):
        while not is_healthy(path):
            await asyncio.sleep(0.01)
    file.show(connected=False)
    await asyncio.sleep(0.1)
    assert not path.exists()
    beating.cancel()


@pytest.mark.parametrize("connected", [True, False])
def test_the_command(path: Path, monkeypatch: pytest.MonkeyPatch, connected: bool) -> None:
    monkeypatch.setenv("HEALTH_FILE", str(path))
    HealthFile(path).show(connected)
    if connected:
        health.main()
    else:
        with pytest.raises(SystemExit) as exit_:
            health.main()
        assert exit_.value.code not in (0, None)


def test_the_command_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEALTH_FILE", raising=False)
    with pytest.raises(SystemExit, match="not set"):
        health.main()
