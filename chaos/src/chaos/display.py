"""Shows the progress of an experiment: events, a line each, and a status line."""

import shutil
import sys
import time

STATUS_EVERY_S = 10.0
"""Without a terminal, whose last line could be rewritten."""


class Display:
    """Writes to standard error. ``began``: the monotonic time that counts as 0."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._live = sys.stderr.isatty()
        self._status = ""
        self._next_status = 0.0

    def event(self, text: str) -> None:
        self._write(f"{self._now():>7.1f} s  {text}\n")

    def status(self, text: str) -> None:
        """Show the status: at once on a terminal, else now and then."""
        self._status = f"{self._now():>7.1f} s  {text}"
        if self._live:
            self._write("")
        elif self._now() >= self._next_status:
            self._next_status = self._now() + STATUS_EVERY_S
            self._write(self._status + "\n")

    def close(self) -> None:
        """Remove the status line."""
        self._status = ""
        self._write("")

    def _write(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            text = f"\r\x1b[K{text}{self._status[:width]}"
        sys.stderr.write(text)
        sys.stderr.flush()

    def _now(self) -> float:
        return time.monotonic() - self._began
