"""An id stands for one call of foo, with the arguments with which it started."""

import base64
import json
import time
from http import HTTPStatus

import pytest

from .programs import Stack
from .test_interface import is_problem

NOBODY = {"resonate:target": "poll://any@service-nobody"}


def _create(stack: Stack, id: str, call: str, tags: dict[str, str]) -> None:
    """Create somebody else's promise; with a target, it is a call that nobody answers."""
    deadline = int(time.time() * 1000) + 600_000
    stack.ask_server("promise.create", id=id, timeoutAt=deadline, param={"data": call}, tags=tags)


@pytest.mark.parametrize(
    ("id", "function", "tags"),
    [
        ("no-call", "foo", {}),
        ("other-group", "foo", NOBODY),
        ("other-group-by-name", "foo", {"resonate:target": "poll://any@service-foo-nobody"}),
        ("other-function", "bar", NOBODY),
    ],
)
def test_a_promise_that_is_no_call_of_foo_is_neither_shown_nor_joined(
    running: Stack, id: str, function: str, tags: dict[str, str]
) -> None:
    call = base64.b64encode(json.dumps({"func": function, "args": [0, 0]}).encode()).decode()
    _create(running, id, call, tags)
    assert is_problem(running.get(f"/foo/{id}"), HTTPStatus.NOT_FOUND)
    for prefer in (None, "respond-async"):
        reply = running.post(key=id, prefer=prefer)
        assert is_problem(reply, HTTPStatus.CONFLICT)
        assert "something other" in reply.json["detail"]
    if tags:
        task = running.ask_server("task.get", id=id)["task"]
        assert (task["state"], task["version"]) == ("pending", 0), "foo took a task that is not its own"


def test_a_promise_with_an_unreadable_call_is_not_shown(running: Stack) -> None:
    _create(running, "garbled-call", "%%%", NOBODY)
    assert is_problem(running.get("/foo/garbled-call"), HTTPStatus.NOT_FOUND)


def test_another_foo_knows_the_original_body(served: Stack) -> None:
    foo, _, _ = served.start_services()
    served.post({"pause": 600}, key="remembered", prefer="respond-async")
    foo.end()
    served.start_foo()
    assert is_problem(served.post({"pause": 601}, key="remembered"), HTTPStatus.UNPROCESSABLE_ENTITY)
    assert served.post({"pause": 600.0}, key="remembered", prefer="respond-async").status == HTTPStatus.ACCEPTED


@pytest.mark.parametrize("state", ["resolved", "rejected"])
@pytest.mark.parametrize("value", [b"{", b"\xff", b"[" * 9999])
def test_an_unreadable_result_is_reported(running: Stack, state: str, value: bytes) -> None:
    id = running.post({"pause": 60}, prefer="respond-async").json["id"]
    running.settle(id, value, state)
    for reply in (running.get(f"/foo/{id}"), running.post(key=id), running.post(key=id, prefer="respond-async")):
        assert is_problem(reply, HTTPStatus.BAD_GATEWAY)
        assert "cannot be read" in reply.json["detail"]
    assert "Traceback" not in running.program("foo").output()
