"""A program in a process of its own that can be started, frozen, killed and restarted."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from harness import fork_server
from harness.basics import PATIENCE_SECONDS, wait_until


class Process:
    """``command`` with its output in ``log``; ``env`` is added to this process's own environment.

    It leads its own process group, as if started at a terminal: signals to the group reach the processes it started.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.command = list(command)
        self.log = log
        self.env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | fork_server.Forked | None = None

    def launch(self) -> Self:
        """Start it without waiting for anything."""
        self._process = fork_server.start(self.command, self.env, self.log) or self._spawn()
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, env=self.env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, f"not started: {self.command}"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status of a process that has ended by itself."""
        return None if self._process is None else self._process.poll()

    def output(self) -> str:
        """Return everything that it, and earlier processes with the same log, have printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def count(self, text: str) -> int:
        return self.output().count(text)

    def runs(self, function: str, promise: str = "") -> int:
        """Count the runs of ``function``, by a worker's log, for promises whose id starts with ``promise``."""
        marker = f"running function {function}  promise={promise}"
        return sum(line.partition(" ")[2].startswith(marker) for line in self.output().splitlines())

    def wait_for(self, text: str) -> None:
        """Wait until the text is in its output; fail if the program ends without it."""
        wait_until(lambda: text in self.output() or not self.is_running, f"{text!r} in {self.log}")
        assert text in self.output(), f"no {text!r} in the output of {self.command}:\n{self.output()}"

    def send(self, number: signal.Signals) -> None:
        """Send the signal to this process only."""
        if (process := self._process) is not None:
            process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; return its exit status, or 0 if it was not running."""
        if (process := self._process) is None:
            return 0
        status = process.wait(timeout=PATIENCE_SECONDS)
        self._process = None
        return status

    def kill(self) -> None:
        """Send SIGKILL to the whole group: no cleanup, no flush."""
        self._send_to_all(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Send SIGTERM; return the exit status, or 0 if it was not running."""
        return self.end()[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send the signal; return the exit status and the seconds it took to end."""
        began = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - began

    def freeze(self) -> None:
        """Send SIGSTOP to the whole group: it keeps its connections and does nothing."""
        self._send_to_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT: it continues as if no time had passed."""
        self._send_to_all(signal.SIGCONT)

    def _send_to_all(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has just ended, or does not lead a group yet
            self.send(number)
