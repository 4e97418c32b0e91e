"""Values never carry code: no worker runs code that somebody wrote into a promise, and none writes any itself."""

import base64
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .programs import Calls, Stack, written

FAILURE = b'{"__type":"error","message":"no number today","name":"ValueError"}'


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    """Calls to a worker that awaits promises which anybody may settle."""
    stack = Stack(tmp_path_factory.mktemp("asking"))
    stack.start_server()
    stack.connect_worker("functions")
    yield Calls(stack.server_port)
    stack.close()


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that exists once code has run."""
    return tmp_path / "executed"


@pytest.fixture
def code(mark: Path) -> bytes:
    return base64.b64encode(pickle.dumps(Touch(mark)))


def test_the_pickle_used_here_does_run_code(code: bytes, mark: Path) -> None:
    pickle.loads(base64.b64decode(code))
    assert mark.exists()


@pytest.mark.parametrize("function", ["ask_function", "ask_person"])
@pytest.mark.parametrize(
    "template",
    [
        b'{"__type":"error","message":"no","__py_pickle":"%b"}',
        b'{"message":"no","__py_pickle":"%b"}',
        b'{"__type":"error","__py_\\u0070ickle":"%b","message":"no"}',
        b'{"__py_pickle":"","message":"yes","__py_pickle":"%b","message":"no"}',
        b' \n{ "message" : "no" , "__py_pickle" : "%b" , "more": [{"__py_pickle": "%b"}] }\n',
    ],
    ids=["as the SDK writes it", "without a type", "escaped", "twice", "spaced and nested"],
)
def test_the_message_of_an_error_arrives_and_its_pickle_does_not(
    calls: Calls, mark: Path, code: bytes, function: str, template: bytes, request: pytest.FixtureRequest
) -> None:
    id = calls.start(request.node.name, function)
    calls.reject(calls.child(id), template.replace(b"%b", code))

    assert calls.outcome(id) == ["ApplicationError", "no"]
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b'{"__py_pickle":"%b"}', "unknown error: {}"),
        (b'[{"__py_pickle":"%b"}]', 'unknown error: [{"__py_pickle":"%b"}]'),
        (b'"%b"', 'unknown error: "%b"'),
    ],
    ids=["nothing else", "in a list", "bare"],
)
def test_an_error_without_a_message_is_shown_unchanged(
    calls: Calls, mark: Path, code: bytes, value: bytes, message: str, request: pytest.FixtureRequest
) -> None:
    id = calls.start(request.node.name, "ask_person")
    calls.reject(calls.child(id), value.replace(b"%b", code))

    assert calls.outcome(id) == ["ApplicationError", message.replace("%b", code.decode())]
    assert not mark.exists()


def test_arguments_cannot_carry_code(calls: Calls, mark: Path, code: bytes) -> None:
    value = {"__type": "error", "message": "no", "__py_pickle": code.decode()}
    id = calls.start("arguments", "give_back", value, __py_pickle=code.decode())

    result = calls.outcome(id)
    assert (result["message"], "__py_pickle" in result) == ("no", False)
    assert not mark.exists()


def test_a_function_that_raises_writes_only_its_message_and_the_name_of_its_error(calls: Calls) -> None:
    promise = calls.settled(calls.start("raises", "fail"))

    assert promise["state"] == "rejected"
    assert written(promise) == FAILURE


def test_a_step_that_raises_does_the_same(calls: Calls) -> None:
    id = calls.start("raises-in-a-step", "fail_in_a_step")

    assert calls.outcome(id) == ["ApplicationError", "no number today"]
    assert written(calls.promise(calls.child(id))) == FAILURE
