"""An event loop whose time is virtual: whenever nothing is left to do now, it jumps to the next timer.

Everything that runs on it is deterministic, and a minute takes no longer than what happens in it. A loop with neither
work nor timers is a deadlock, and an error.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any


class DeadlockError(RuntimeError):
    """Everybody waits, and nothing will ever happen."""


class _NoIO(selectors.BaseSelector):
    """Selects nothing, but lets time pass."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError
        self._advance(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 1_000.0
        super().__init__(_NoIO(self._advance))
        self._clock_resolution = 1e-6  # far above the precision of the float, or due timers would not be run

    def time(self) -> float:
        return self._now

    def _advance(self, seconds: float) -> None:
        self._now += max(seconds, 0.0)

    def _write_to_self(self) -> None:
        """There is no other thread to wake it from."""


class ModuleTime:
    """Stands in for the module ``time`` in code that runs on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic = loop.time
        self.perf_counter = loop.time


def run[T](loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end and drop whatever else was going on."""
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
