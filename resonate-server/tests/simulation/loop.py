"""An event loop in virtual time: whenever nothing is left to do now, it jumps to the next timer.

A virtual minute takes only as long as the work done in it, and whatever runs on the loop alone is deterministic.
Having neither work nor timers is a deadlock, which is an error. While something outside the loop is at work
(:class:`WithOutside`), time passes at its real pace.

The work of an actor can be held back at any point, for a while or for good: this is how a process stalls or is killed.
"""

import asyncio
import selectors
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any

ACTOR: ContextVar[object] = ContextVar("actor", default=None)
"""The actor that owns the current context's work."""

type Ready = list[tuple[selectors.SelectorKey, int]]


class DeadlockError(RuntimeError):
    """Everything waits, and nothing will ever happen."""


class _NoIO(selectors.DefaultSelector):
    """A selector that selects nothing but lets time pass."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Ready:
        if timeout is None:
            raise DeadlockError
        self.loop.advance(timeout)
        return []


class WithOutside(selectors.DefaultSelector):
    """A selector with real sockets and threads."""

    LOOK_S = 0.005
    """Real time to wait for the outside; if it stays silent this long, it may be waiting for virtual time to pass."""
    STEP_S = 0.25
    """Virtual time that then passes, at least."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Ready:
        found = self._look(0)
        if found or timeout == 0:
            return found
        if self.loop.has_jobs or self.loop.is_awaited():
            return self._wait(self.LOOK_S if timeout is None else min(timeout, self.LOOK_S))
        if timeout is None:
            raise DeadlockError
        self.loop.advance(timeout)
        return self._look(0)

    def _wait(self, seconds: float) -> Ready:
        began = time.monotonic()
        found = self._look(seconds)
        if not found:
            time.sleep(0.002)  # Data for an actor that is held stays readable: do not spin.
            if self.loop.is_stuck():
                self.loop.advance(self.STEP_S)
        self.loop.advance(time.monotonic() - began)
        return found

    def _look(self, seconds: float) -> Ready:
        return [each for each in super().select(seconds) if not self.loop.is_held(each[0].data)]


class _Queue(deque[asyncio.Handle]):
    """The handles to run, in order; those of actors that are held are set aside."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[object, list[asyncio.Handle]] = {}
        self.nothing: asyncio.Handle

    def popleft(self) -> asyncio.Handle:
        handle = super().popleft()
        if not self.held or (held := self.held.get(actor_of(handle))) is None:
            return handle
        held.append(handle)
        return self.nothing


def actor_of(handle: asyncio.Handle) -> object:
    return handle._context.get(ACTOR)  # type: ignore[attr-defined]


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _NoIO | WithOutside | None = None) -> None:
        self._now = 1_000.0
        self._outside = selector or _NoIO()
        self._outside.loop = self
        self.jobs: Counter[object] = Counter()
        """The number of jobs that each actor has running on other threads."""
        self.is_awaited: Callable[[], bool] = lambda: False
        """Returns whether something outside is at work and will answer in time."""
        self.is_stuck: Callable[[], bool] = lambda: False
        """Returns whether the outside can only go on once virtual time passes."""
        self.time_passes: Callable[[], None] = lambda: None
        """Called whenever virtual time passes."""
        super().__init__(self._outside)
        self._clock_resolution = 1e-6  # well above float precision, so that due timers do run
        self._kept: dict[object, set[asyncio.Task[Any]]] = {}
        """Strong references to tasks that wait only for one another and would be garbage collected."""
        self._ready = self._queue = _Queue()
        self._queue.nothing = asyncio.Handle(lambda: None, (), self)
        self._queue.nothing.cancel()

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += max(seconds, 0.0)
        self.time_passes()

    def _write_to_self(self) -> None:
        if isinstance(self._outside, WithOutside):
            super()._write_to_self()  # type: ignore[misc]

    def run_in_executor[*Ts, T](
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """A job that has not begun when its actor is held fails."""
        actor = ACTOR.get()

        def begin(*args: *Ts) -> T:
            if actor in self._queue.held:
                raise OSError("whoever asked for it is not there")
            return func(*args)

        job = super().run_in_executor(executor, begin, *args)
        self.jobs[actor] += 1
        job.add_done_callback(lambda _: self.jobs.subtract((actor,)), context=Context())  # a context that is never held
        return job

    @property
    def has_jobs(self) -> bool:
        """Whether any actor that is not held has jobs on other threads."""
        return any(number for actor, number in self.jobs.items() if actor not in self._queue.held)

    # --- holding actors ---------------------------------------------------------------------------------------------

    def hold(self, actor: object) -> None:
        """Stop all work of ``actor`` until it is released."""
        self._queue.held.setdefault(actor, [])
        self._kept[actor] = {task for task in asyncio.all_tasks(self) if task.get_context().get(ACTOR) is actor}

    def release(self, actor: object) -> None:
        self._queue.extend(self._queue.held.pop(actor, ()))
        self._kept.pop(actor, None)

    def is_held(self, handles: Any) -> bool:
        """Return whether an actor that waits for this file is held."""
        held = self._queue.held
        return bool(held) and any(actor_of(handle) in held for handle in handles if handle is not None)


class ModuleTime:
    """Replaces the module ``time`` in code that runs on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic = loop.time
        self.perf_counter = loop.time

    def monotonic_ns(self) -> int:
        return int(self.monotonic() * 1e9)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextmanager
def virtual_time(loop: VirtualLoop, package: str) -> Iterator[None]:
    """Put all loaded modules of ``package`` on the loop's time."""
    virtual = ModuleTime(loop)
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith(f"{package}.") and getattr(module, "time", None) is time
    ]
    for module in modules:
        module.time = virtual  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.time = time  # type: ignore[attr-defined]


def run[T](loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end and cancel everything else."""
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
