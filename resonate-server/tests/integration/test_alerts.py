"""The alert rules in ``observability``: Prometheus accepts them, and the metrics they name exist."""

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from harness.basics import free_port
from integration.servers import Start, metrics_text

FOLDER = Path(__file__).parents[3] / "observability"


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        text = "promtool (Debian package prometheus) is not installed: the alert rules are NOT checked"
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    return path


@pytest.mark.parametrize(("what", "file"), [("check", "alerts.yml"), ("test", "alerts_test.yml")])
def test_promtool_finds_nothing_wrong(promtool: str, what: str, file: str) -> None:
    done = subprocess.run(
        [promtool, what, "rules", file], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_name_metrics_that_the_server_has(start: Start) -> None:
    port = free_port()
    start("state.db", RESONATE_OBSERVABILITY__METRICS_PORT=str(port))
    there = set(re.findall(r"^# TYPE (\w+)", metrics_text(port), re.MULTILINE))
    named = set(re.findall(r"\bresonate_\w+", (FOLDER / "alerts.yml").read_text()))

    assert {name.removesuffix("_bucket") for name in named} <= there
