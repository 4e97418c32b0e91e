"""A program that runs as a process of its own, to be started, frozen, killed and started again."""

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
    """``command`` with its output in ``log``; ``env`` comes on top of this process's own.

    It leads a group of its own, as if started at a terminal: what is done to all of it reaches what it has started.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.command = list(command)
        self.log = log
        self.env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | fork_server.Forked | None = None

    def launch(self) -> Self:
        """Start it, and do not wait for anything."""
        self._process = fork_server.start(self.command, self.env, self.log) or self._spawn()
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, env=self.env, start_new_session=True
            )

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

    def count(self, text: str) -> int:
        """How often that is in its output."""
        return self.output().count(text)

    def runs(self, function: str, promise: str = "") -> int:
        """How often ``function`` began to run, by a worker's log, for promises whose id starts with ``promise``."""
        marker = f"running function {function}  promise={promise}"
        return sum(line.partition(" ")[2].startswith(marker) for line in self.output().splitlines())

    def wait_for(self, text: str) -> None:
        """Until the text is in its output; a program that has ended without it fails the test."""
        wait_until(lambda: text in self.output() or not self.is_running, f"{text!r} in {self.log}")
        assert text in self.output(), f"no {text!r} in the output of {self.command}:\n{self.output()}"

    def send(self, number: signal.Signals) -> None:
        """To the process alone."""
        if (process := self._process) is not None:
            process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, once it has ended; 0 if it was not running."""
        if (process := self._process) is None:
            return 0
        status = process.wait(timeout=PATIENCE_SECONDS)
        self._process = None
        return status

    def kill(self) -> None:
        """SIGKILL to all of it: no goodbye, no flush."""
        self._send_to_all(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status, 0 if it was not running."""
        return self.end()[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit status, and the seconds it took to end."""
        began = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - began

    def freeze(self) -> None:
        """SIGSTOP to all of it: it holds its connections and does nothing."""
        self._send_to_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._send_to_all(signal.SIGCONT)

    def _send_to_all(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has ended meanwhile, or leads no group yet
            self.send(number)
