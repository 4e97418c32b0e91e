"""Asyncio tasks in flight, so that on shutdown they can be awaited or cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class InFlightTasks(set[asyncio.Task[Any]]):
    """The tasks in flight. Used on one event loop."""

    def begin[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start ``work`` now, not in the loop's next iteration, so that it comes before work started later."""
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self.add(task)
            task.add_done_callback(self.discard)
        return task
