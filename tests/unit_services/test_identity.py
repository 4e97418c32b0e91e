"""An id stands for one call of foo, with the arguments with which it started."""

import base64
import json
import time
from http import HTTPStatus

import pytest

from .programs import Stack
from .test_interface import is_problem


def _create(stack: Stack, id: str, function: str = "foo", **tags: str) -> None:
    """Create somebody else's promise; with a target, it is a call that nobody answers."""
    call = base64.b64encode(json.dumps({"func": function, "args": [0, 0]}).encode()).decode()
    deadline = int(time.time() * 1000) + 600_000
    named = {f"resonate:{name}": value for name, value in tags.items()}
    stack.ask_server("promise.create", id=id, timeoutAt=deadline, param={"data": call}, tags=named)


@pytest.mark.parametrize(
    ("id", "function", "tags"),
    [
        ("no-call", "foo", {}),
        ("other-group", "foo", {"target": "poll://any@service-nobody"}),
        ("other-group-by-name", "foo", {"target": "poll://any@service-foo-nobody"}),
        ("other-function", "bar", {"target": "poll://any@service-nobody"}),
    ],
)
def test_a_promise_that_is_no_call_of_foo_is_neither_shown_nor_joined(
    running: Stack, id: str, function: str, tags: dict[str, str]
) -> None:
    _create(running, id, function, **tags)
    assert is_problem(running.get(f"/foo/{id}"), HTTPStatus.NOT_FOUND)
    for prefer in (None, "respond-async"):
        reply = running.post(key=id, prefer=prefer)
        assert is_problem(reply, HTTPStatus.CONFLICT)
        assert "something else" in reply.json["detail"]
    if tags:
        task = running.ask_server("task.get", id=id)["task"]
        assert (task["state"], task["version"]) == ("pending", 0), "foo took a task that is not its own"


def test_a_promise_with_an_unreadable_call_is_not_shown(running: Stack) -> None:
    tags = {"resonate:target": "poll://any@service-nobody"}
    deadline = int(time.time() * 1000) + 600_000
    running.ask_server("promise.create", id="garbled-call", timeoutAt=deadline, param={"data": "%%%"}, tags=tags)
    assert is_problem(running.get("/foo/garbled-call"), HTTPStatus.NOT_FOUND)


def test_another_foo_knows_the_original_body(stack: Stack) -> None:
    stack.start_server()
    foo, _, _ = stack.start_services()
    stack.post({"pause": 600}, key="remembered", prefer="respond-async")
    foo.end()
    stack.start_foo()
    assert is_problem(stack.post({"pause": 601}, key="remembered"), HTTPStatus.UNPROCESSABLE_ENTITY)
    assert stack.post({"pause": 600.0}, key="remembered", prefer="respond-async").status == HTTPStatus.ACCEPTED


@pytest.mark.parametrize("state", ["resolved", "rejected"])
@pytest.mark.parametrize("value", [b"{", b"\xff", b"[" * 9999])
def test_an_unreadable_result_is_reported(running: Stack, state: str, value: bytes) -> None:
    id = running.post({"pause": 60}, prefer="respond-async").json["id"]
    data = base64.b64encode(value).decode()
    running.ask_server("promise.settle", id=id, state=state, value={"data": data})
    for reply in (running.get(f"/foo/{id}"), running.post(key=id), running.post(key=id, prefer="respond-async")):
        assert is_problem(reply, HTTPStatus.BAD_GATEWAY)
        assert "cannot be read" in reply.json["detail"]
    assert "Traceback" not in running.program("foo").output()
