"""A program that runs as a process of its own, to be started, frozen, killed and started again."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.fork_server import Forked

STOP_SECONDS = 60


class Process:
    """``command`` with its output in ``log``; ``env`` comes on top of this process's own."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.command = list(command)
        self.log = log
        self.env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def launch(self) -> None:
        """Start it, and do not wait for anything."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, env=self.env)

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, f"not started: {self.command}"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Of a process that has ended by itself."""
        return None if self._process is None else self._process.poll()

    def output(self) -> str:
        """Everything it, and those before it with the same log, have printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status, 0 if it was not running."""
        return self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        status = self._process.wait(timeout=STOP_SECONDS)
        self._process = None
        return status
