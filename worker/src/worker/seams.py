"""What depends on the insides of the SDK (resonate-sdk 0.8.1), because it has no public place for it.

* `resonate.core.ResonateEffects`, made for each attempt: it gives back the promise of a step from its cache or from the
  server, without comparing it with what was asked for.
* `Context._next_id`, called once for each step: the request does not say which function asks.
* `Context.run`: neither the request nor the promise of a local step names its function.
* `DurableFunction.invoke`, by which every function runs, steps and repetitions as well: nothing says what came of it.
* `Context._state.effects`: which task a function runs for, and in which version.
* `Resonate._bounded_execute`: cancelled while it waits for a place, it leaves the coroutine it was given to the
  interpreter, which warns of each.

tests/unit_worker/test_seams.py fails if another version of the SDK has these otherwise.
"""

import functools
from collections.abc import Coroutine
from typing import Any

import resonate.core
from resonate.context import Context
from resonate.durable import DurableFunction
from resonate.effects import ResonateEffects
from resonate.error import PlatformError
from resonate.resonate import Resonate
from resonate.send import TaskRef
from resonate.types import PromiseCreateReq, PromiseRecord, Value

from worker.replay import FUNCTION_TAG, StepChangedError, is_same, step_of
from worker.runs import RunLog


class ComparingEffects(ResonateEffects):
    """The SDK's own, with a look at what it gives back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.callers: dict[str, str] = {}
        """By the id of a step: the function that asks for it."""
        self.functions: dict[str, str] = {}
        """By the id of a step that is run locally: its function."""

    async def create_promise(self, req: PromiseCreateReq) -> PromiseRecord:
        """Raises :class:`StepChangedError` (in a `PlatformError`, which functions cannot catch) for another step."""
        if function := self.functions.get(req.id):
            req = PromiseCreateReq(
                id=req.id, timeout_at=req.timeout_at, param=req.param, tags=req.tags | {FUNCTION_TAG: function}
            )
        record = await super().create_promise(req)
        then = step_of(record.tags, record.param.data)
        now = step_of(req.tags, self._as_stored(req.param))
        if not is_same(then, now):
            self._stopped = True
            error = StepChangedError(self.callers.get(req.id, "a function"), req.id, then, now)
            raise PlatformError([error]) from error
        return record

    def _as_stored(self, param: Value) -> Any:
        """The parameter as it comes back from the server: objects become what JSON makes of them."""
        return None if param.data is None else self.codec.decode(self.codec.encode(param.data))


def adapt_sdk() -> None:
    """Have the SDK compare each step with its promise, tell the `RunLog` among its dependencies what each function came
    to, and drop what it has not begun without a warning. To be called before a worker begins; once is enough."""
    if vars(resonate.core)["ResonateEffects"] is ComparingEffects:
        return
    resonate.core.ResonateEffects = ComparingEffects  # type: ignore[attr-defined]
    Context._next_id = _naming_callers(Context._next_id)  # type: ignore[method-assign]
    Context.run = _naming_functions(Context.run)  # type: ignore[method-assign]
    DurableFunction.invoke = _telling(DurableFunction.invoke)  # type: ignore[method-assign]
    Resonate._bounded_execute = _closing(Resonate._bounded_execute)  # type: ignore[method-assign]


def task_of(ctx: Context) -> TaskRef:
    """The task that a function runs for, as it was claimed."""
    effects: Any = ctx._state.effects
    return TaskRef(id=effects.task_id, version=effects.task_version)


def runs_of(ctx: Context) -> RunLog:
    """That of the worker; where the SDK runs without one, nobody hears of the end."""
    try:
        return ctx.get_dependency(RunLog)
    except KeyError:
        return RunLog()


def _naming_callers(next_id: Any) -> Any:
    @functools.wraps(next_id)
    def named(ctx: Context) -> str:
        id: str = next_id(ctx)
        if isinstance(effects := ctx._state.effects, ComparingEffects):
            effects.callers[id] = ctx._state.func_name
        return id

    return named


def _naming_functions(run: Any) -> Any:
    @functools.wraps(run)
    def named(ctx: Context, fn: Any, *args: Any, **kwargs: Any) -> Any:
        future = run(ctx, fn, *args, **kwargs)
        # The promise is asked for in a task, which has not begun yet.
        if isinstance(effects := ctx._state.effects, ComparingEffects):
            effects.functions[future._id] = fn if isinstance(fn, str) else getattr(fn, "__name__", "")
        return future

    return named


def _telling(invoke: Any) -> Any:
    @functools.wraps(invoke)
    async def telling(function: DurableFunction, ctx: Context, packed: Any, **options: Any) -> Any:
        runs, id, attempt = runs_of(ctx), ctx.info.id, task_of(ctx).version
        try:
            result = await invoke(function, ctx, packed, **options)
        except BaseException as error:
            runs.raised(id, attempt, error)
            raise
        runs.returned(id, attempt, result)
        return result

    return telling


def _closing(execute: Any) -> Any:
    @functools.wraps(execute)
    async def closing(resonate: Resonate, coro: Coroutine[Any, Any, Any]) -> None:
        try:
            await execute(resonate, coro)
        finally:
            coro.close()

    return closing
