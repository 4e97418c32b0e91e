"""Run a command on a terminal of its own, read its screen and press keys."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

_LAUNCH = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
"""Gives the command a controlling terminal, so that Ctrl-C becomes a signal."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"(?:\x1b\[[0-9]*[AK]|\r)+")
"""Sequences that move the cursor up and clear lines."""

LINES, COLUMNS = 40, 120

CTRL_C = "\x03"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """``env`` is added to this process's own environment, except for what describes the user's own terminal."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**_without_looks({**os.environ, **env}), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
        )
        os.close(slave)
        self._received = b""

    @property
    def raw(self) -> str:
        """Everything received, including control sequences."""
        return self._received.decode(errors="replace")

    @property
    def frame(self) -> str:
        """The last screen drawn, without colours."""
        return _FRAME.split(_COLOUR.sub("", self.raw.replace("\r\n", "\n")))[-1]

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait_for(self, text: str, seconds: float = 60) -> None:
        self._wait_until(lambda: text in self.frame, f"no {text!r}", seconds)

    def wait_for_no(self, text: str, seconds: float = 60) -> None:
        self._wait_until(lambda: text not in self.frame, f"still {text!r}", seconds)

    def wait(self, seconds: float = 60) -> int:
        """Wait until the command has ended; return its exit status."""
        deadline = time.monotonic() + seconds
        while self._receive():
            assert time.monotonic() < deadline, f"still running:\n{self.frame}"
        return self._process.wait(timeout=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)

    def _wait_until(self, condition: Callable[[], bool], complaint: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{complaint} in\n{self.frame}"
            assert self._receive() or condition(), f"{complaint} in the end:\n{self.frame}"

    def _receive(self) -> bool:
        """Return whether more output can come."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            received = os.read(self._master, 65_536)
        except OSError:  # how Linux reports that nobody has the other end open
            return False
        self._received += received
        return bool(received)


def _without_looks(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
