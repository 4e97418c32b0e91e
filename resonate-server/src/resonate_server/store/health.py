"""Whether the store can be written to. A change is logged in one line, however many requests fail meanwhile."""

import logging
import re
import time

from msgspec import Struct

from resonate_server.store.errors import StoreFailed

logger = logging.getLogger(__name__)

QUIET_S = 30.0
"""A trouble that comes and goes, as when only small things find room, is logged this often."""


class CommitAge(Struct, frozen=True):
    """How long ago the last commit attempt began, and whether it is still under way. ``trouble``: why the latest
    attempt to store something has failed, for people; empty if it has not."""

    seconds: float
    is_under_way: bool
    trouble: str = ""


class LogThrottle:
    """Lets each line of the log through once in a while."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}
        """By text without its numbers: when (monotonic seconds)."""

    def admits(self, text: str) -> bool:
        """Return whether ``text`` is to be logged now, and count on that."""
        kind, now = re.sub(r"\d+", "", text), time.monotonic()
        if now - self._logged.get(kind, -QUIET_S) < QUIET_S:
            return False
        self._logged = {each: at for each, at in self._logged.items() if now - at < QUIET_S} | {kind: now}
        return True


class StoreHealth:
    """``trouble``: why nothing can be stored at the moment, for people; empty if all is well."""

    def __init__(self) -> None:
        self.trouble = ""
        self.is_committing = False
        self._attempted: float | None = None
        self._throttle = LogThrottle()
        self._is_logged = False

    @property
    def commit(self) -> CommitAge | None:
        """``None`` before the first one."""
        if self._attempted is None:
            return None
        return CommitAge(
            seconds=time.monotonic() - self._attempted, is_under_way=self.is_committing, trouble=self.trouble
        )

    def commits(self) -> None:
        """A commit begins."""
        self._attempted = time.monotonic()
        self.is_committing = True

    def failed(self, error: Exception) -> None:
        self.is_committing = False
        self.trouble = str(error) or type(error).__name__
        if self._throttle.admits(self.trouble):
            # A disk or database failure needs no traceback; anything else may be a bug of ours.
            unforeseen = None if isinstance(error, StoreFailed | OSError) else error
            logger.error("cannot store anything now: %s", self.trouble, exc_info=unforeseen)
            self._is_logged = True

    def worked(self) -> None:
        self.is_committing = False
        if self._is_logged:
            logger.info("the store works again")
        self.trouble, self._is_logged = "", False
