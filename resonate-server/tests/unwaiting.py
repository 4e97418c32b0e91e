"""Run coroutines that never wait, without an event loop."""

from collections.abc import Coroutine
from typing import Any


def finish[T](work: Coroutine[Any, Any, T]) -> T:
    """Return the result of ``work``. Raises :class:`AssertionError` if it waits after all."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError(f"{work} waits for something")
