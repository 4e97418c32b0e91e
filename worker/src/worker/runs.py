"""Logs each run of a durable function: two lines, which share the id of its promise.

    running function bar  promise=ID  attempt=1
    ended function bar  promise=ID  attempt=1  seconds=0.012  suspended, waits for ID.1

Of a function that does not call `log_run`, only what went wrong is logged.

A function that waits runs from its top again when it continues. That is a new attempt; its number is the version of the
task. The end is logged once it is final: when the server has answered the request that reports the outcome.
"""

import asyncio
import logging
import reprlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
from resonate.error import PlatformError, Suspended
from resonate.send import TaskRef

logger = logging.getLogger(__name__)

MAX_SHOWN_CHARACTERS: Final = 200
"""Of a result or a message."""
MAX_REASON_CHARACTERS: Final = 500
"""Of how an attempt stopped, and why: for a changed step, what it was and what it is."""
MAX_FAILED_STEPS: Final = 8
MAX_SHOWN_IDS: Final = 5
RETURNED: Final = "returned"
"""The outcome of a function whose result is not shown."""
STOPS: Final = "the worker stops"
UNSHOWABLE: Final = "its message cannot be shown"
LEASE_IS_GONE: Final = {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}

_values = reprlib.Repr(maxstring=MAX_SHOWN_CHARACTERS, maxother=MAX_SHOWN_CHARACTERS)

type Surrounding = Callable[[str, str, TaskRef], AbstractContextManager[None]]
"""Returns the context of a run, given its function, the id of its promise, and the task in which it runs."""


class _Run(msgspec.Struct):
    function: str
    id: str
    task: TaskRef
    """The task in which it runs: its own, or for a step, that of its function."""
    began: float
    ended: float | None = None
    outcome: str = ""
    """What it returned or raised, or why it did not complete."""
    error: Exception | None = None
    traceback: TracebackType | None = None
    failed_steps: dict[str, Exception] = msgspec.field(default_factory=dict)
    """The newest errors of its steps, by message: the SDK hands a function no more than that."""
    is_shown: bool = False
    """Whether its beginning is logged."""


class RunLog:
    """Logs the runs of one worker; used on its event loop.

    Two attempts may run at once: one whose lease this worker has lost without noticing, and the next one.
    """

    def __init__(self, is_ending: Callable[[], bool] = lambda: True) -> None:
        """`is_ending`: whether the worker is ending, so that what is cancelled has not failed."""
        self.is_ending = is_ending
        self.surround: Surrounding = lambda *_: nullcontext()
        self._runs: dict[tuple[str, int], _Run] = {}
        """By the id of the promise and the attempt: runs whose end is not logged yet."""
        self._last: dict[str, int] = {}
        """By the id of the promise: the last of these attempts. A function may have thousands of steps at work."""
        self._reasons: dict[tuple[str, int], str] = {}
        """By task and attempt: why the attempt failed, until the task is released."""

    # ── what functions do ──

    def track(self, function: str, id: str, task: TaskRef) -> _Run:
        """Track a run until it ends. `task`: the one in which it runs."""
        if (earlier := self._runs.get((id, task.version))) is not None:
            self._log_end(earlier, f"{earlier.outcome}; retrying", logging.WARNING)
        run = self._runs[id, task.version] = _Run(function, id, task, time.monotonic())
        self._last[id] = max(task.version, self._last.get(id, 0))
        return run

    def begin(self, function: str, id: str, task: TaskRef) -> None:
        run = self._runs.get((id, task.version))
        if run is None or run.ended is not None:  # not tracked: the SDK runs without a worker
            run = self.track(function, id, task)
        if not run.is_shown:
            run.is_shown = True
            logger.info("running function %s  promise=%s  attempt=%d", function, id, task.version)

    def returned(self, id: str, attempt: int, value: Any) -> None:
        if run := self._runs.get((id, attempt)):
            run.ended = time.monotonic()
            run.outcome = f"result: {shortened(_values.repr(value))}" if run.is_shown else RETURNED

    def raised(self, id: str, attempt: int, error: BaseException, traceback: TracebackType | None = None) -> None:
        """`traceback`: where the function raised the error."""
        if (run := self._runs.get((id, attempt))) is None:
            return
        run.ended = time.monotonic()
        match error:
            case Suspended():
                return  # the request to suspend its task names what it awaits
            case PlatformError():
                run.outcome = shortened(message_of(error.cause), MAX_REASON_CHARACTERS)
            case asyncio.CancelledError():
                run.outcome = STOPS
            case Exception():
                run.outcome, run.traceback = shortened(described(error)), traceback
                run.error = RuntimeError(run.outcome) if message_of(error) == UNSHOWABLE else error
                return
        if run.id != run.task.id:  # a step ends here; a task's run ends with the server's answer
            self._log_end(run, f"broken off: {run.outcome}")

    def has_step_at_work(self) -> bool:
        return any(run.id != run.task.id and run.ended is None for run in self._runs.values())

    # ── what the server answers ──

    def step_settled(self, id: str) -> None:
        """Log the outcome of a step, in the attempt that has the lease: the last one."""
        if attempt := self._last.get(id):
            self._log_outcome(self._runs[id, attempt])

    def fulfilled(self, task: TaskRef) -> None:
        if run := self._runs.get((task.id, task.version)):
            self._log_outcome(run)

    def suspended(self, task: TaskRef, awaited: Sequence[str], *, goes_on: bool) -> None:
        """`goes_on`: an awaited result is there already, so the attempt runs the function from its top again."""
        shown = ", ".join(awaited[:MAX_SHOWN_IDS])
        more = f" and {len(awaited) - MAX_SHOWN_IDS} more" if len(awaited) > MAX_SHOWN_IDS else ""
        text = f"suspended, waits for {shown}{more}{'; continues at once' if goes_on else ''}"
        run = self._runs.get((task.id, task.version))
        if run is not None and run.outcome and run.error is None:
            self._log_end(run, f"{text}; it returned without awaiting this: is an `await` missing?", logging.WARNING)
        self.ends(task, text)

    def failed(self, task: TaskRef, reason: str) -> None:
        """Note why the attempt failed; the task is released next."""
        self._reasons[task.id, task.version] = reason

    def take_reason(self, task: TaskRef) -> str:
        """Return why the attempt failed, and forget it; empty if unknown."""
        return self._reasons.pop((task.id, task.version), "")

    def ends(self, task: TaskRef, text: str, level: int = logging.INFO) -> None:
        """Log the end of the attempt: of the task's function and of its steps."""
        text = shortened(text, MAX_REASON_CHARACTERS)
        runs = [run for run in self._runs.values() if run.task == task]
        for run in runs:
            self._log_end(run, text, level)
        if level > logging.INFO and not runs:  # its function never ran
            logger.log(level, "a call was %s  promise=%s  attempt=%d", text, task.id, task.version)

    def given_back(self, task: TaskRef, reason: str) -> None:
        """`reason`: why the attempt failed, if it did."""
        if reason:
            self.ends(task, f"given back: {reason}", logging.WARNING)
        else:
            self.ends(task, "given back")

    # ── when the worker stops ──

    def abandoned(self) -> None:
        """Log the end of all remaining runs: the server has not answered for them."""
        for run in list(self._runs.values()):
            self._log_end(run, f"broken off: {STOPS}, and the server does not answer")

    def _log_outcome(self, run: _Run) -> None:
        if run.error is None:
            self._log_end(run, run.outcome)
        elif function := self._function_of(run):  # it may handle the error
            function.failed_steps[message_of(run.error)] = run.error.with_traceback(run.traceback)
            if len(function.failed_steps) > MAX_FAILED_STEPS:  # each keeps the variables of the step
                del function.failed_steps[next(iter(function.failed_steps))]
            self._log_end(run, f"{run.outcome}{_place(run.traceback)}", logging.WARNING)
        else:
            _link(run.error, run.failed_steps)
            self._log_end(run, run.outcome, logging.ERROR)

    def _function_of(self, step: _Run) -> _Run | None:
        return self._runs.get((step.task.id, step.task.version)) if step.id != step.task.id else None

    def _log_end(self, run: _Run, text: str, level: int = logging.INFO) -> None:
        attempt = run.task.version
        del self._runs[run.id, attempt]
        if self._last.get(run.id) == attempt:
            del self._last[run.id]
        if level == logging.INFO and not run.is_shown:
            return
        error = (type(run.error), run.error, run.traceback) if level == logging.ERROR and run.error else None
        seconds = (run.ended or time.monotonic()) - run.began
        line = "ended function %s  promise=%s  attempt=%d  seconds=%.3f  %s"
        logger.log(level, line, run.function, run.id, attempt, seconds, text, exc_info=error)


def _place(traceback: TracebackType | None) -> str:
    if traceback is None:
        return ""
    while traceback.tb_next:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f" ({Path(code.co_filename).name}, line {traceback.tb_lineno}, in {code.co_name})"


def _link(error: Exception, failed_steps: dict[str, Exception]) -> None:
    """If a step's error made the function fail, have its traceback precede the function's."""
    for each in (error, error.__cause__, error.__context__):
        if each is not None and each.__cause__ is None and (cause := failed_steps.get(message_of(each))):
            each.__cause__ = cause


def message_of(error: BaseException) -> str:
    """Return its message, with lone surrogates escaped; for a group of errors, with theirs."""
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    try:
        text = "; ".join(map(message_of, members))
        return f"{error}{': ' if text else ''}{text}".encode(errors="backslashreplace").decode()
    except BaseException:  # also one that would end this process
        return UNSHOWABLE


def described(error: BaseException) -> str:
    message = message_of(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def shortened(text: str, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
