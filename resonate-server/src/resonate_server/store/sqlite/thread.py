"""A thread beside the event loop, for work that waits for the disk or takes long.

An executor would do the same, but its futures and locks cost more than most transactions.
"""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

type _Task = tuple[Callable[[], Any], asyncio.Future[Any]]


class WorkThread:
    """Used on the event loop, between :meth:`start` and :meth:`stop`."""

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Finish the queued work, then end the thread."""
        self._tasks.put(None)
        self._thread.join()

    def run[T](self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue ``work``; the future gets what it returns or raises."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._tasks.put((work, done))
        return done

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            work, done = task
            try:
                end = partial(done.set_result, work())
            except Exception as error:
                end = partial(done.set_exception, error)
            self._loop.call_soon_threadsafe(_end, done, end)


def _end(done: asyncio.Future[Any], end: Callable[[], None]) -> None:
    if not done.done():
        end()
