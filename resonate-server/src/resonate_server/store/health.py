"""Whether the store can be written to. A change is logged in one line, however many requests fail meanwhile."""

import logging
import time

from resonate_server.store import CommitAge
from resonate_server.store.errors import StoreFailed

logger = logging.getLogger(__name__)


class StoreHealth:
    """``trouble``: why nothing can be stored at the moment, for people; empty if all is well."""

    def __init__(self) -> None:
        self.trouble = ""
        self._attempted: float | None = None
        self._is_committing = False

    @property
    def commit(self) -> CommitAge | None:
        """``None`` before the first one."""
        if self._attempted is None:
            return None
        return CommitAge(seconds=time.monotonic() - self._attempted, is_under_way=self._is_committing)

    def commits(self) -> None:
        """A commit begins."""
        self._attempted = time.monotonic()
        self._is_committing = True

    def failed(self, error: Exception) -> None:
        self._is_committing = False
        trouble = str(error) or type(error).__name__
        if trouble != self.trouble:
            # A disk or database failure needs no traceback; anything else may be a bug of ours.
            unforeseen = None if isinstance(error, StoreFailed | OSError) else error
            logger.error("cannot store anything, answering requests with 503: %s", trouble, exc_info=unforeseen)
        self.trouble = trouble

    def worked(self) -> None:
        self._is_committing = False
        if self.trouble:
            logger.info("the store works again")
        self.trouble = ""
