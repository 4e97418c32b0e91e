"""Everything that depends on internals of the SDK (resonate-sdk 0.8.1), where it has no public API.

* `ResonateEffects`, made for each attempt, returns the promise of a step without comparing it with the request.
* `Context.run`: neither the request nor the promise of a local step names its function.
* `DurableFunction.invoke` runs every function, including steps and retries: nothing reports the outcome.
* `Core.execute_until_blocked_inner` is one attempt. If it raises, the task is released, and nothing says why; after a
  call that the server refuses as malformed, the function would run again and again. It fails instead.
* `Context.rpc` and `Context.detached`: the same for arguments that cannot be stored, and for results.
* `ResonateFuture`: who stops waiting for a step, by `asyncio.timeout` for instance, cancels it within the SDK, and the
  attempt never ends. So waiting is shielded: the step continues, and its function ends after it.
* `Codec.encode` pickles errors, and fails for messages that cannot be written.
* `decode_settled` of `resonate.context` raises "unknown error: null" for a call that was cancelled or is late.
* Each call that a function makes is requested in an asyncio task with the function's context, and so with its span.
* Its loggers: what they say about failed requests and lost leases is logged better elsewhere.

tests/unit_worker/test_seams.py fails if these differ in another version of the SDK.
"""

import asyncio
import inspect
import logging
import os
import warnings
from collections.abc import Callable, Generator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, cast

import resonate.context
import resonate.core
from resonate.codec import Codec
from resonate.codec import decode_settled as sdk_decode_settled
from resonate.context import Context, ResonateFuture
from resonate.core import Core
from resonate.dependencies import DependencyMap
from resonate.durable import DurableFunction
from resonate.effects import ResonateEffects
from resonate.error import (
    ApplicationError,
    FunctionNotFoundError,
    PlatformError,
    ResonateError,
    ServerError,
    Suspended,
)
from resonate.send import TaskRef
from resonate.tree import Tree
from resonate.types import PromiseCreateReq, PromiseRecord, Value

from worker.replay import FUNCTION_TAG, StepChangedError, is_same, step_of
from worker.runs import LEASE_IS_GONE, RunLog, described, message_of
from worker.values import value_of

MAX_VALUE_BYTES: Final = 4 * 1024 * 1024 - 8192
"""In base64. The server refuses requests of more than 4 MiB."""
NOT_AWAITED: Final = ("type Task", "type coroutine")
"""How the SDK's error ends if a value contains a step that nobody has awaited."""
RETURNED_EARLY: Final = "core: workflow returned done with pending remote todos"
"""How the SDK says that a function has returned before its calls ended."""
ENDS: Final = {"rejected_timedout": "was not settled before its deadline", "rejected_canceled": "was cancelled"}
"""How calls end without an error of their own."""


class ComparingEffects(ResonateEffects):
    """The SDK's effects, which also check each promise that they return."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.functions: dict[str, str] = {}
        """By id: functions that run, and those requested as local steps."""

    async def create_promise(self, req: PromiseCreateReq) -> PromiseRecord:
        """Raises :class:`StepChangedError` (in a `PlatformError`, which functions cannot catch) for another step."""
        if function := self.functions.get(req.id):
            tags = req.tags | {FUNCTION_TAG: function}
            req = PromiseCreateReq(id=req.id, timeout_at=req.timeout_at, param=req.param, tags=tags)
        record = await super().create_promise(req)
        then = step_of(record.tags, record.param.data)
        # Encode and decode it, as the server's copy was: JSON does not preserve every object.
        now = step_of(
            req.tags, None if req.param.data is None else self.codec.decode(self.codec.encode(req.param.data))
        )
        if not is_same(then, now, req.param.data):
            self._stopped = True
            caller = self.functions.get(req.tags.get("resonate:parent", ""), "a function")
            error = StepChangedError(caller, req.id, then, now)
            raise PlatformError([error]) from error
        return record


def _task_of(effects: Any) -> TaskRef:
    return TaskRef(id=effects.task_id, version=effects.task_version)


def log_run(ctx: Context) -> None:
    """Log that a function runs and, once it has ended, its outcome."""
    _run_log(ctx._state.deps).begin(ctx.info.func_name, ctx.info.id, _task_of(ctx._state.effects))


def _run_log(deps: DependencyMap) -> RunLog:
    """If the SDK runs without a worker, return one that never logs the end."""
    try:
        return deps.get(RunLog)
    except KeyError:
        return RunLog()


def filter_sdk() -> None:
    """Keep from the log what the SDK says of its own doings, and what the end of a run tells better."""
    logging.getLogger("resonate").setLevel(logging.WARNING)
    logging.getLogger(resonate.core.__name__).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    cause = error.cause if isinstance(error, PlatformError) else error
    is_told_by_the_end_of_a_run = isinstance(cause, FunctionNotFoundError | StepChangedError) or (
        isinstance(cause, ServerError) and cause.code in LEASE_IS_GONE
    )
    return not (is_told_by_the_end_of_a_run or str(record.msg).startswith(RETURNED_EARLY))


def silence_sdk() -> None:
    """A worker that ends cuts its work short, and each cut would be reported."""
    for name in ("resonate", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)


# ── what is replaced in the SDK ──

sdk_run: Final[Any] = Context.run
sdk_invoke: Final = DurableFunction.invoke
sdk_execute: Final[Any] = Core.execute_until_blocked_inner
sdk_encode: Final = Codec.encode


def named_run(ctx: Context, fn: Any, *args: Any, **kwargs: Any) -> Any:
    """Note the step's function. The asyncio task that requests its promise has not started yet."""
    if callable(fn):
        check_durable(fn)
    future, effects = sdk_run(ctx, fn, *args, **kwargs), cast("ComparingEffects", ctx._state.effects)
    effects.functions[future._id] = fn if isinstance(fn, str) else getattr(fn, "__name__", "")
    return future


def check_durable(function: Callable[..., Any]) -> None:
    """Raise `TypeError` if it cannot run as a durable function. The SDK would say so later, and less clearly."""
    name = getattr(function, "__name__", "the function")
    if not _takes_context(function):
        raise TypeError(f"{name} must take its Context first: async def {name}(ctx: Context, ...)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} is a generator: write async def {name}(ctx: Context, ...), and await in place of yield"
        )


def _takes_context(function: Callable[..., Any]) -> bool:
    """Return whether a function may be called with its `Context` first. Only annotations that are classes tell."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    kind = first and first.annotation
    if not isinstance(kind, type) or kind is inspect.Parameter.empty or getattr(kind, "_is_protocol", False):
        return first is not None
    return issubclass(Context, kind) or issubclass(kind, Context)


def checked_call(sdk_call: Callable[..., Any]) -> Callable[..., Any]:
    def call(ctx: Context, fn: Any, *args: Any, **kwargs: Any) -> Any:
        name = fn if isinstance(fn, str) else getattr(fn, "__name__", "a function")
        stored(cast("ComparingEffects", ctx._state.effects).codec, [name, args, kwargs], f"arguments of {name}")
        return sdk_call(ctx, fn, *args, **kwargs)

    return call


def stored(codec: Codec, value: Any, what: str) -> Any:
    """Return the value as whoever reads it will get it. Raises :class:`ApplicationError` if it cannot be stored."""
    try:
        encoded = codec.encode(value)
        if (length := len(encoded.data or "")) > MAX_VALUE_BYTES:
            raise ValueError(f"{length} bytes in base64, the limit is {MAX_VALUE_BYTES}")
        return codec.decode(encoded)
    except (ResonateError, ValueError, RecursionError) as error:
        hint = "; is an `await` missing?" if str(error).endswith(NOT_AWAITED) else ""
        raise ApplicationError(f"the {what} cannot be stored: {error}{hint}") from error


async def reported_invoke(function: DurableFunction, ctx: Context, packed: Any, **options: Any) -> Any:
    runs, id, effects = _run_log(ctx._state.deps), ctx.info.id, cast("ComparingEffects", ctx._state.effects)
    task = _task_of(effects)
    effects.functions.setdefault(id, ctx.info.func_name)
    runs.track(ctx.info.func_name, id, task)
    worker = os.getpid()
    try:
        with runs.surround(ctx.info.func_name, id, task):
            result = await sdk_invoke(function, ctx, packed, **options)
        _end_if_forked(worker, 1)
        read = stored(effects.codec, result, f"result of {ctx.info.func_name}")
        if id != task.id:
            function.coerce_result(read)  # as for the step's caller
    except BaseException as error:
        _end_if_forked(worker, error.code or 0 if isinstance(error, SystemExit) else 1)
        failure = _failure(error, runs)
        runs.raised(id, task.version, failure, _without_sdk(error.__traceback__))
        if failure is error:
            raise
        raise failure from error
    runs.returned(id, task.version, result)
    return result


def _end_if_forked(worker: int, status: Any) -> None:
    """End a process that the function forked, and that comes back from it: it would be a second worker, on the same
    connections. What else a program does at its end would reach them, too."""
    if os.getpid() != worker:
        os._exit(status if isinstance(status, int) else 1)


async def explained_execute(core: Core, promise: PromiseRecord, effects: Any) -> Any:
    try:
        return await sdk_execute(core, promise, effects)
    except (Exception, PlatformError, asyncio.CancelledError) as error:
        task, reason = _task_of(effects), _reason(error)
        if isinstance(error, PlatformError) and (refusal := _refusal(error)):
            _run_log(core.deps).raised(task.id, task.version, refusal)
            value, settled = core.codec.encode(refusal), Tree(root_id=promise.id)
            return resonate.core._ExecFulfilled(state="rejected", value=value, tree=settled)
        _run_log(core.deps).failed(task, reason)
        if isinstance(error, ResonateError | PlatformError):
            raise
        # For any other error the SDK does not release the task, and its lease would be kept as long as this worker.
        raise ApplicationError(reason) from error


def decode_settled(record: PromiseRecord) -> Any:
    """Say what happened to a call that has no error of its own."""
    if record.value.data is None and (end := ENDS.get(record.state)):
        raise ApplicationError(f"{record.id} {end}")
    return sdk_decode_settled(record)


def shielded_await(future: ResonateFuture[Any]) -> Generator[Any, None, Any]:
    """As `asyncio.shield`, at half of its cost."""
    task = future._task
    if not task.done():
        over = task.get_loop().create_future()
        task.add_done_callback(lambda _: None if over.done() else over.set_result(None))
        yield from over
    return task.result()


def plain_encode(codec: Codec, value: Any) -> Value:
    return sdk_encode(codec, value_of(value) if isinstance(value, Exception) else value)


def _failure(error: BaseException, runs: RunLog) -> BaseException:
    """Return the error with which a function fails. If it is no `Exception`, the SDK settles nothing and releases
    nothing, and some end the process: `sys.exit()` would end this worker, and then the next one that gets the task."""
    if isinstance(error, BaseExceptionGroup) and (sign := _sign_in(error)):
        return sign
    if isinstance(error, Exception | Suspended | PlatformError) or runs.is_ending():
        return error
    return RuntimeError(f"the function ended with {described(error)}")


def _refusal(error: PlatformError) -> ServerError | None:
    """Return why the server can never accept one of the function's calls, such as one to a group without a name."""
    refusals = (each for each in error.causes if isinstance(each, ServerError) and each.code == HTTPStatus.BAD_REQUEST)
    return next(refusals, None)


def _without_sdk(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the function itself."""
    while traceback and traceback.tb_frame.f_code in (reported_invoke.__code__, sdk_invoke.__code__):
        traceback = traceback.tb_next
    return traceback


def _sign_in(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return what the SDK raised in a task of an `asyncio.TaskGroup`, if anything: the function must wait or stop."""
    for kind in (PlatformError, Suspended):
        found: BaseException | None = group.subgroup(kind)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is not None:
            return found
    return None


def _reason(error: BaseException) -> str:
    cause = error.cause if isinstance(error, PlatformError) else error
    if isinstance(cause, FunctionNotFoundError):
        version = "" if cause.version == 1 else f"version {cause.version} of "
        return f"{version}function '{cause.name}' is not known to this worker"
    return message_of(cause) if isinstance(cause, ResonateError) else described(cause)


ADAPTED: Final[tuple[tuple[Any, str, Any], ...]] = (
    (resonate.core, "ResonateEffects", ComparingEffects),
    (resonate.context, "decode_settled", decode_settled),
    (Context, "run", named_run),
    (Context, "rpc", checked_call(Context.rpc)),
    (Context, "detached", checked_call(Context.detached)),
    (DurableFunction, "invoke", reported_invoke),
    (Core, "execute_until_blocked_inner", explained_execute),
    (ResonateFuture, "__await__", shielded_await),
    (Codec, "encode", plain_encode),
)
"""What is replaced in the SDK: its owner, its name, and the replacement."""


def adapt_sdk() -> None:
    """Replace these parts. They report to the `RunLog` among the SDK's dependencies. Call it before a worker starts."""
    for owner, name, replacement in ADAPTED:
        setattr(owner, name, replacement)
    filter_sdk()
