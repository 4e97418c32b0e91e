"""Room for the requests that wait."""

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

from foo_web.problems import Problem


class Places:
    """Each waiting request takes a thread, and some threads are left to requests that do not wait."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._ends: list[float] = []

    @contextlib.contextmanager
    def take(self, seconds: float) -> Iterator[None]:
        """`seconds`: how long it will be taken at least, as far as one can know."""
        now = time.monotonic()
        end = now + seconds
        with self._lock:
            if len(self._ends) >= self._number:
                raise self._full(min(self._ends) - now)
            self._ends.append(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)

    def are_short(self) -> bool:
        return len(self._ends) > self._number / 2

    def _full(self, seconds: float) -> Problem:
        """No place can become free before the first of those who wait can have its result."""
        detail = (
            f"{self._number} requests wait already, and no more may wait. "
            "With the header Prefer: respond-async a request does not wait"
        )
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after=max(1, math.ceil(seconds)))
