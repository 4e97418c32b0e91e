"""Values never carry code: no worker runs code that somebody wrote into a promise, and none writes any itself.

`unit_worker/test_values.py` has every shape of such a value.
"""

import base64
import pickle
from pathlib import Path
from typing import Any

from .programs import Calls, Stack, written

FAILURE = b'{"__type":"error","message":"no number today","name":"ValueError"}'


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_code_in_a_value_does_not_run_and_the_message_beside_it_arrives(
    served: Stack, calls: Calls, tmp_path: Path
) -> None:
    mark = tmp_path / "executed"
    served.connect_worker("functions")
    pickled = pickle.dumps(Touch(mark))
    code = base64.b64encode(pickled)

    for function in ("ask_function", "ask_person"):
        for number, (value, message) in enumerate(
            {
                b'{"__type":"error","message":"no","__py_pickle":"%b"}': "no",
                b'{"__py_pickle":"","message":"yes","__py_\\u0070ickle":"%b","message":"no"}': "no",
                b'{"__py_pickle":"%b"}': "unknown error: {}",
                b'"%b"': 'unknown error: "%b"',
            }.items()
        ):
            id = calls.start(f"{function}-{number}", function)
            calls.reject(calls.child(id), value.replace(b"%b", code))
            assert calls.outcome(id) == ["ApplicationError", message.replace("%b", code.decode())]

    argument = {"__type": "error", "message": "no", "__py_pickle": code.decode()}
    result = calls.outcome(calls.start("arguments", "give_back", argument, __py_pickle=code.decode()))
    assert (result["message"], "__py_pickle" in result) == ("no", False)

    assert not mark.exists()
    pickle.loads(pickled)
    assert mark.exists(), "it would have run"


def test_what_raises_writes_only_its_message_and_the_name_of_its_error(served: Stack, calls: Calls) -> None:
    served.connect_worker("functions")
    promise = calls.settled(calls.start("raises", "fail"))
    assert (promise["state"], written(promise)) == ("rejected", FAILURE)

    id = calls.start("raises-in-a-step", "fail_in_a_step")
    assert calls.outcome(id) == ["ApplicationError", "no number today"]
    assert written(calls.promise(calls.child(id))) == FAILURE
