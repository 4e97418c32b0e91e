"""The health file: fresh while the server can reach this worker."""

import time
from pathlib import Path

BEAT_SECONDS = 1.0
STALE_SECONDS = 5.0


class HealthFile:
    """Touches the file every second while the worker is connected, and removes it when it is not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connected = False

    def show(self, connected: bool) -> None:
        self._connected = connected
        if connected:
            self._path.touch()
        else:
            self._path.unlink(missing_ok=True)

    async def keep_fresh(self) -> None:
        import asyncio  # not at the top: scripts call only is_fresh, and this import is slow

        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self._connected:
                self._path.touch()


def is_fresh(path: Path) -> bool:
    """Return whether the worker lives and the server can reach it. Images use `find` instead, which starts faster."""
    try:
        return time.time() - path.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False
