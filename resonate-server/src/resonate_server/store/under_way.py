"""Work that was begun and has not ended: whoever stops can wait for it, or end it."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class UnderWay(set[asyncio.Task[Any]]):
    """The tasks. Used on one event loop."""

    def begin[T](self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin ``work`` now, and not with the loop's next round, so that it comes before what is begun later."""
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self.add(task)
            task.add_done_callback(self.discard)
        return task
