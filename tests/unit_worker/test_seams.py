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

import pytest
import resonate.core
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
    ("logs.py", "_srcfile"),
    ("worker.py", "_exit"),
    ("faults.py", "_exit"),
    ("server.py", "_abort"),
    ("server.py", "_leave"),
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


def test_the_core_creates_its_effects_by_this_name_once_per_attempt() -> None:
    source = inspect.getsource(resonate.core.Core.execute_until_blocked_outer)
    assert source.count("ResonateEffects(") == 1


def test_create_promise_takes_the_request_of_a_step() -> None:
    assert list(inspect.signature(ResonateEffects.create_promise).parameters) == ["self", "req"]


def test_a_step_names_its_caller() -> None:
    assert '"resonate:parent": self._state.id' in inspect.getsource(Context.run)
    assert 'tags["resonate:parent"] = parent if parent is not None else self._state.id' in inspect.getsource(
        Context._global_req
    )


def test_a_local_step_starts_only_after_run_has_returned() -> None:
    source = inspect.getsource(Context.run)
    assert "asyncio.create_task(bg())" in source
    assert "_id=req.id" in source


def test_calls_of_a_function_are_requested_in_tasks_that_it_creates() -> None:
    for asker in (Context.run, Context.detached):
        assert "asyncio.create_task(bg())" in inspect.getsource(asker)
    assert "asyncio.create_task(self._await_remote(" in inspect.getsource(Context._spawn_remote_await)
    for remote in (Context.rpc, Context.sleep, Context.promise):
        assert inspect.getsource(remote).count("self._remote_future(") == 1
    assert "asyncio.create_task(coro)" in inspect.getsource(Resonate._spawn)
    assert "self._spawn(_())" in inspect.getsource(Resonate.run)


def test_every_function_runs_through_invoke() -> None:
    assert list(inspect.signature(DurableFunction.invoke).parameters) == ["self", "ctx", "packed", "coerce_args"]
    assert inspect.getsource(Context.invoke_with_retry).count("await df.invoke(self,") == 1
    for runner in (resonate.core.Core.execute_until_blocked_inner, Context.run):
        assert inspect.getsource(runner).count(".invoke_with_retry(") == 1


def test_an_attempt_is_one_call_of_the_core_with_the_worker_s_dependencies() -> None:
    assert list(inspect.signature(Core.execute_until_blocked_inner).parameters) == ["self", "promise", "effects"]
    assert inspect.getsource(Core.execute_until_blocked_outer).count("self.execute_until_blocked_inner(") == 1
    assert "deps=self.deps," in inspect.getsource(Core.execute_until_blocked_inner)


def test_a_future_is_awaited_by_its_task() -> None:
    assert "return self._task.__await__()" in inspect.getsource(ResonateFuture.__await__)


def test_the_effects_of_a_context_know_its_task() -> None:
    source = inspect.getsource(ResonateEffects.__init__)
    assert "self.task_id = task_id" in source
    assert "self.task_version = task_version" in source


def test_the_log_call_that_the_filter_expects_exists() -> None:
    source = inspect.getsource(resonate.core.Core.execute_until_blocked_outer)
    assert "except (ResonateError, PlatformError) as exc:\n                logger.exception(" in source


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
