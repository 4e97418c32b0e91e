"""Ports for tests that run side by side, also in different checkouts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TAKE_ONE = "import sys; from harness.basics import free_port; print(free_port(), flush=True); sys.stdin.read()"
TAKE_THIS = "import sys; from harness import basics; basics._PORTS = [int(sys.argv[1])]; print(basics.free_port())"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}


def take(port: str, seconds: float) -> str:
    command = [sys.executable, "-c", TAKE_THIS, port]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds, check=True
    ).stdout.strip()


def test_a_port_belongs_to_one_process_as_long_as_that_lives() -> None:
    command = [sys.executable, "-c", TAKE_ONE]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        port = owner.stdout.readline().strip()
        with pytest.raises(subprocess.TimeoutExpired):  # it keeps looking
            take(port, 1)
        owner.communicate("")

    assert take(port, 60) == port
