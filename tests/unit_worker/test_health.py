"""The health file, and the image's check of it."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from worker.health import STALE_SECONDS, HealthFile, is_fresh


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEALTH_FILE", str(tmp_path / "health"))
    return tmp_path / "health"


def test_the_file_exists_while_connected(path: Path) -> None:
    file = HealthFile(path)
    assert not path.exists()
    file.show(connected=True)
    assert is_fresh(path)
    file.show(connected=False)
    assert not path.exists() and not is_fresh(path)


def test_a_file_that_is_no_longer_touched_is_unhealthy_for_us_and_for_images(path: Path) -> None:
    command = re.search(r'"(find .*)"', (Path(__file__).parents[2] / "Dockerfile").read_text())
    assert command
    for age, fresh in ((STALE_SECONDS - 1, True), (STALE_SECONDS + 1, False)):
        HealthFile(path).show(connected=True)
        os.utime(path, (time.time() - age, time.time() - age))
        assert is_fresh(path) == fresh
        checked = subprocess.run(["sh", "-c", command[1].replace("\\", "")], check=False)
        assert (checked.returncode == 0) == fresh
    os.utime(path, (time.time() + 3600, time.time() + 3600))
    assert not is_fresh(path), "the clock was set back"


def test_a_folder_that_is_gone_is_logged_once_and_stops_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = HealthFile(path / "gone" / "health")
    for _ in range(3):
        file.show(connected=True)
    assert len(caplog.messages) == 1
    (path / "gone").mkdir(parents=True)
    file.show(connected=True)
    assert is_fresh(path / "gone" / "health")
