"""The SDK's internals that the worker relies on are unchanged; a new version of the SDK must be checked."""

import ast
import inspect
import logging
import operator
import re
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from harness.sdk import adaptable_sdk
from resonate.context import Context, ResonateFuture
from resonate.core import Core
from resonate.durable import DurableFunction
from resonate.effects import ResonateEffects
from resonate.resonate import Resonate

from worker import seams
from worker.seams import ADAPTED, adapt_sdk, silence_sdk

REPOSITORY = Path(__file__).parents[2]
OFFERED = {
    "resonate.context",
    "resonate.error",
    "resonate.heartbeat",
    "resonate.observability",
    "resonate.resonate",
    "resonate.retry",
    "resonate.send",
    "resonate.timing",
    "resonate.transport",
    "resonate.types",
    "resonate_base.connections",
}
HIDDEN_BUT_NOT_OF_THE_SDK = {
    ("heartbeats.py", "_current_frames"),
    ("worker.py", "_exit"),
    ("faults.py", "_exit"),
    ("server.py", "_close_transport"),
    ("server.py", "_has_arrived"),
    ("server.py", "_on_message_complete"),
    ("server.py", "_serve"),
}


def test_the_internals_are_those_of_the_pinned_version() -> None:
    assert version("resonate-sdk") == "0.8.1"


def syntax_of_others() -> Iterator[tuple[str, ast.AST]]:
    """Each node of the code that builds on the SDK, but for `seams.py`, with the name of its file."""
    folders = (Path(seams.__file__).parent, REPOSITORY / "services", REPOSITORY / "examples")
    for path in (path for folder in folders for path in folder.rglob("*.py") if path.name != "seams.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path.name, node


def test_others_import_only_what_the_sdk_offers_to_its_users() -> None:
    imports = [(file, node) for file, node in syntax_of_others() if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [
        (file, (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name)
        for file, node in imports
        for alias in node.names
    ]
    assert {name for _, name in names if name.partition(".")[0] in {"resonate", "resonate_base"}} == OFFERED


def test_others_read_no_hidden_attribute_of_the_sdk() -> None:
    hidden = {
        (file, node.attr)
        for file, node in syntax_of_others()
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr) and ast.unparse(node.value) != "self"
    }
    assert hidden == HIDDEN_BUT_NOT_OF_THE_SDK


SPAWNS = "asyncio.create_task(bg())"
CONTAINED: dict[str, tuple[Any, str]] = {
    "the core creates its effects by this name once per attempt": (
        Core.execute_until_blocked_outer,
        "ResonateEffects(",
    ),
    "an attempt is one call of the core": (Core.execute_until_blocked_outer, "self.execute_until_blocked_inner("),
    "with the worker's dependencies": (Core.execute_until_blocked_inner, "deps=self.deps,"),
    "a local step names its caller": (Context.run, '"resonate:parent": self._state.id'),
    "so does a remote one": (
        Context._global_req,
        '["resonate:parent"] = parent if parent is not None else self._state.id',
    ),
    "a local step starts only after run has returned": (Context.run, SPAWNS),
    "its future has its id": (Context.run, "_id=req.id"),
    "calls are requested in tasks that the function creates": (Context.detached, SPAWNS),
    "remote ones, too": (Context._spawn_remote_await, "asyncio.create_task(self._await_remote("),
    "which are these": (Context.rpc, "self._remote_future("),
    "and sleeps": (Context.sleep, "self._remote_future("),
    "and promises": (Context.promise, "self._remote_future("),
    "also calls from outside": (Resonate.run, "self._spawn(_())"),
    "which spawn a task": (Resonate._spawn, "asyncio.create_task(coro)"),
    "every function runs through invoke": (Context.invoke_with_retry, "await df.invoke(self,"),
    "those of tasks": (Core.execute_until_blocked_inner, ".invoke_with_retry("),
    "and steps": (Context.run, ".invoke_with_retry("),
    "a future is awaited by its task": (ResonateFuture.__await__, "return self._task.__await__()"),
    "the effects of a context know its task": (ResonateEffects.__init__, "self.task_id = task_id"),
    "and its version": (ResonateEffects.__init__, "self.task_version = task_version"),
    "the log call of an early return exists": (Core.execute_until_blocked_inner, f'"{seams.RETURNED_EARLY} '),
    "the filtered log call exists": (
        Core.execute_until_blocked_outer,
        "except (ResonateError, PlatformError) as exc:\n                logger.exception(",
    ),
}


@pytest.mark.parametrize(("function", "text"), CONTAINED.values(), ids=CONTAINED)
def test_the_sdk_works_as_expected(function: Any, text: str) -> None:
    assert inspect.getsource(function).count(text) == 1


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (ResonateEffects.create_promise, ["self", "req"]),
        (DurableFunction.invoke, ["self", "ctx", "packed", "coerce_args"]),
        (Core.execute_until_blocked_inner, ["self", "promise", "effects"]),
    ],
)
def test_what_is_replaced_takes_these_arguments(function: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("resonate", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.getLogger(name).level)


@pytest.mark.usefixtures("loggers")
def test_a_stopping_worker_is_silent_about_interrupted_work(caplog: pytest.LogCaptureFixture) -> None:
    async def cut_short() -> None: ...

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        silence_sdk()
        for name in ("resonate.core", "asyncio"):
            logging.getLogger(name).critical("cut short")
        cut_short()  # type: ignore[unused-coroutine]
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
        warnings.warn("coroutine 'f' was never awaited", UserWarning, stacklevel=1)
    assert caplog.messages == []
    assert [str(warning.message) for warning in warned] == ["something else", "coroutine 'f' was never awaited"]


def test_the_seams_are_installed_only_once() -> None:
    with adaptable_sdk():
        before = [getattr(owner, name) for owner, name, _ in ADAPTED]
        adapt_sdk()
        adapted = [getattr(owner, name) for owner, name, _ in ADAPTED]
        adapt_sdk()
        assert [getattr(owner, name) for owner, name, _ in ADAPTED] == adapted
        assert not any(map(operator.is_, before, adapted))
    assert [getattr(owner, name) for owner, name, _ in ADAPTED] == before
