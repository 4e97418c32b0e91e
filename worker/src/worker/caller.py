"""Calls from a program that has an event loop of its own, or none: a web application or a script."""

import asyncio
import atexit
import os
import threading
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from worker.seams import stored
from worker.settings import Settings
from worker.worker import RunningWorker, Worker

DEADLINE = timedelta(days=1)
END_SECONDS = 1.0


class Caller:
    """Calls the functions of one group.

    The SDK's event loop runs in a thread, which the first call of a process starts: threads do not survive a fork.
    """

    def __init__(self, target: str, timeout: timedelta = DEADLINE) -> None:
        """`timeout`: the deadline of a call, counted from its start."""
        self._target, self._timeout = target, timeout
        self._settings = Settings.from_environment()
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        """Of the process in which the loop runs."""
        self._inherited: list[object] = []
        """What a fork has copied: closing it here would disturb the parent."""
        self._running: RunningWorker | None = None

    def call(self, id: str, function: str, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin a call, or join the one with this id. Cancelling the future of its result ends only the wait.

        The future raises the SDK's `ApplicationError` with the message of a function that failed, its
        `ResonateTimeoutError` after the deadline, and another `ResonateError` if the call is refused.
        """
        return asyncio.run_coroutine_threadsafe(self._call(id, function, *args, **kwargs), self._started())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None or self._pid != os.getpid():
                self._inherited += [self._loop, self._running]
                self._pid, self._running = os.getpid(), None
                self._loop = asyncio.new_event_loop()
                atexit.register(_hold_still, self._loop, self._pid)
                threading.Thread(target=self._loop.run_forever, name="caller", daemon=True).start()
            return self._loop

    async def _call(self, id: str, function: str, *args: Any, **kwargs: Any) -> Any:
        if self._running is None:
            self._running = RunningWorker(Worker(f"{self._target}-callers"), self._settings)
        resonate = self._running.resonate
        stored(resonate.promises.codec, [args, kwargs], f"arguments of {function}")
        target = resonate.options(target=self._target, timeout=self._timeout)
        handle = target.rpc(id, function, *args, **kwargs)
        # The result of a refused call never comes; its id raises. Shielded: the SDK must not be cancelled here.
        await asyncio.shield(handle.id())
        return await handle.result()


def _hold_still(loop: asyncio.AbstractEventLoop, pid: int) -> None:
    """A thread that runs code while the interpreter exits may end the process by SIGSEGV, so it waits from now on."""
    if pid != os.getpid():  # a fork has no such thread
        return
    is_still = threading.Event()

    def wait() -> None:
        is_still.set()
        threading.Event().wait()

    loop.call_soon_threadsafe(wait)
    is_still.wait(END_SECONDS)
