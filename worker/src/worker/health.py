"""The health file: fresh while the server can reach this worker."""

import logging
import time
from pathlib import Path

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
STALE_SECONDS = 5.0


class HealthFile:
    """A file that shows whether a worker is connected, if that is written every `BEAT_SECONDS`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fails = False

    def show(self, connected: bool) -> None:
        """A full disk, or a folder that is gone, does not stop a worker from working."""
        try:
            if connected:
                self._path.touch()
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            if not self._fails:
                logger.warning("HEALTH_FILE cannot be written: %s", error)
            self._fails = True
        else:
            self._fails = False


def is_fresh(path: Path) -> bool:
    """Return whether the worker lives and the server can reach it. Images use `find` instead, which starts faster."""
    try:
        return abs(time.time() - path.stat().st_mtime) < STALE_SECONDS  # the clock may have been set back meanwhile
    except OSError:
        return False
