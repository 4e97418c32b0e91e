"""The health file: fresh while the server can reach this worker. `python -m worker.health` looks at it."""

import os
import sys
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
        import asyncio  # only here: loading it takes longer than the check, which is a process of its own every 5 s

        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if self._connected:
                self._path.touch()


def main() -> None:
    """Exit with 0 if the file named by HEALTH_FILE is fresh, with 1 otherwise."""
    path = os.environ.get("HEALTH_FILE") or sys.exit("HEALTH_FILE is not set: the worker keeps no health file")
    try:
        is_fresh = time.time() - Path(path).stat().st_mtime < STALE_SECONDS
    except OSError:
        is_fresh = False
    if not is_fresh:
        sys.exit(f"not connected: {path} is missing or older than {STALE_SECONDS:.0f} s")


if __name__ == "__main__":
    main()
