"""A command on a terminal of its own: what it shows there, and keys for it."""

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
"""A session that the terminal controls, so that Ctrl-C becomes a signal."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"(?:\x1b\[[0-9]*[AK]|\r)+")
"""What moves the cursor up and clears lines."""

LINES, COLUMNS = 40, 120

CTRL_C = "\x03"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """``env`` comes on top of this process's own."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**_without_width(os.environ), "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **env},
        )
        os.close(slave)
        self._received = b""

    @property
    def raw(self) -> str:
        """All it has received, with what steers it."""
        return self._received.decode(errors="replace")

    @property
    def frame(self) -> str:
        """What was drawn last, without colours."""
        return _FRAME.split(_COLOUR.sub("", self.raw.replace("\r\n", "\n")))[-1]

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until the frame shows it."""
        self._wait_until(lambda: text in self.frame, f"no {text!r}", seconds)

    def wait_for_no(self, text: str, seconds: float = 60) -> None:
        """Until the frame does not show it any more."""
        self._wait_until(lambda: text not in self.frame, f"still {text!r}", seconds)

    def wait(self, seconds: float = 60) -> int:
        """Until it has ended; its exit status."""
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
        """False if nothing can come any more."""
        if not select.select([self._master], [], [], 0.1)[0]:
            return True
        try:
            received = os.read(self._master, 65_536)
        except OSError:  # how Linux tells that nobody has the other end open
            return False
        self._received += received
        return bool(received)


def _without_width(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
