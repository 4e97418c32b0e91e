"""Faults from the live page on the whole stack: a click kills a worker, and the chain continues once it is back."""

import json
from typing import Any

import pytest
from harness.basics import wait_until
from harness.page import Page

from stack.conftest import containers_seldom
from stack.driver import ANSWER_SECONDS, Answer, Stack, new_id

LONG = 600
"""Seconds; the test itself ends a pause this long."""


def workers(stack: Stack, group: str) -> list[str]:
    """Return the addresses of the connected workers, as the page writes them."""
    with Page(stack.server_port).watch() as watching:
        groups = watching.hello["groups"]
    return [
        f"poll://any@{group}/{worker['pid']}"
        for one in groups
        if one["name"] == group
        for worker in one["workers"]
        if worker["state"] == "connected"
    ]


def click(stack: Stack, fault: str, worker: str) -> str:
    """Click beside that worker, and return the id of the call that this starts."""
    stack.disturbed = True
    got = Page(stack.server_port).act(json.dumps({"worker": worker}).encode(), fault)
    assert got.status == 202, got.body
    return str(got.json["id"])


def result(stack: Stack, id: str) -> Any:
    """Return the result as the page shows it, None while there is none."""
    [call] = Page(stack.server_port).get("/ui/api/chain", id=id).json["promises"]
    return (call["value"] or {}).get("text")


@pytest.mark.parametrize("service", ["bar", "baz"])
@containers_seldom
def test_a_worker_that_the_page_kills_comes_back_and_the_chain_continues(stack: Stack, service: str) -> None:
    id = new_id()
    caller = stack.post_in_background(id, {"pause": LONG})
    wait_until(lambda: stack.runs("baz", id), "baz has run")
    [before] = workers(stack, f"service-{service}")

    call = click(stack, "kill", before)
    wait_until(lambda: before not in workers(stack, f"service-{service}"), "it is gone")
    if stack.kind == "processes":
        stack.start(service)  # Docker restarts it by itself

    wait_until(lambda: workers(stack, f"service-{service}"), "another one is there")
    wait_until(lambda: result(stack, call) == '"survived"', "the call that comes again finds it alive")
    stack.end_sleep(id)
    assert caller.result(ANSWER_SECONDS) == Answer(200, id, 3)
    assert stack.runs("baz", id) == 1


def test_bar_dies_while_it_works_and_its_work_is_repeated(stack: Stack) -> None:
    [before] = workers(stack, "service-bar")
    call = click(stack, "kill-at-work", before)
    wait_until(lambda: call in stack.log("bar"), "it waits for its moment")
    id = new_id()
    caller = stack.post_in_background(id, {"running": 10})
    wait_until(lambda: before not in workers(stack, "service-bar"), "it is gone")
    stack.start("bar")

    assert caller.result(ANSWER_SECONDS) == Answer(200, id, 3)
    assert stack.log("bar").count(f"running function work  promise={id}") == 2


@containers_seldom
def test_when_switched_off_nothing_is_offered_and_nothing_is_killed(stack: Stack) -> None:
    kind = "--docker" if stack.kind == "containers" else "--processes"
    stack.disturbed = True
    try:
        stack.succeed("env", "DEMO_FAULTS=0", "scripts/up.sh", kind, "--recreate")
        page = Page(stack.server_port)
        assert [action for action in page.get("/ui/api/actions").json["actions"] if action["workers"] is not None] == []
        [bar] = workers(stack, "service-bar")
        assert page.act(json.dumps({"worker": bar}).encode(), "kill").status == 400
        assert workers(stack, "service-bar") == [bar]
    finally:
        stack.succeed("env", "DEMO_FAULTS=1", "scripts/up.sh", kind, "--recreate")
