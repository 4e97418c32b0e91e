"""`scripts/watch.sh`, faults from the live page, and `scripts/example.sh`, each on the whole stack."""

import json
import re
from typing import Any

import pytest
from harness.basics import REPOSITORY, answers_200, wait_until
from harness.page import Page
from harness.terminal import CTRL_C, HIDE_CURSOR, SHOW_CURSOR, Terminal

from stack.conftest import containers_seldom
from stack.driver import ANSWER_SECONDS, LONG, Answer, Stack, new_id, read_until, workers

# ── watch.sh: a request in flight, on a terminal and elsewhere ──


def watch(stack: Stack, *arguments: str) -> Terminal:
    return Terminal(["scripts/watch.sh", *arguments], stack.environment, REPOSITORY)


def send(stack: Stack, pause: float) -> str:
    """Send a request whose bar sleeps that long; return its id."""
    id = new_id()
    assert stack.post(id, {"pause": pause}, wait=False).status == 202
    return id


@containers_seldom
def test_the_newest_request_is_followed_to_its_end(stack: Stack) -> None:
    send(stack, 0)
    id = send(stack, LONG)
    with watch(stack) as shown:
        shown.wait_for("● sleep")
        assert id in shown.frame
        stack.end_sleep(id)
        assert shown.wait() == 0
        for call in ("✔ foo", "└─ ✔ bar", "├─ ✔ baz", "result: 3"):
            assert call in shown.frame


@containers_seldom
def test_a_request_can_be_named(stack: Stack) -> None:
    id = send(stack, 0)
    assert stack.post(id) == Answer(200, id, 3)
    send(stack, 0)
    done = stack.run("scripts/watch.sh", id)
    assert done.returncode == 0, done.stderr
    assert f"✔ foo  {id}" in done.stdout
    assert done.stdout.endswith("result: 3\n")


@containers_seldom
def test_ctrl_c_ends_watch_but_not_the_request(stack: Stack) -> None:
    id = send(stack, LONG)
    with watch(stack) as shown:
        shown.wait_for("● sleep")
        shown.press(CTRL_C)
        assert shown.wait() == 130
        assert shown.raw.rindex(SHOW_CURSOR) > shown.raw.rindex(HIDE_CURSOR)
    assert stack.look_up(id) == Answer(200, id, None, "pending")
    stack.end_sleep(id)


def test_it_says_that_there_is_no_request_yet(stack: Stack) -> None:
    stack.disturbed = True
    stack.run("scripts/down.sh", "--volumes")  # fails if the user has no access to an engine that is there
    stack.start("resonate-server")
    wait_until(lambda: answers_200(stack.server_port, "/ready"), "the server is ready")
    done = stack.run("scripts/watch.sh")
    assert done.returncode == 1
    assert done.stderr == "watch.sh: there is no request yet; scripts/trigger.sh --pause 10 sends one.\n"


# ── faults from the live page: a click kills a worker, and the chain continues once it is back ──


def click(stack: Stack, fault: str, worker: str) -> str:
    """Click beside that worker, and return the id of the call that this starts."""
    stack.disturbed = True
    got = Page(stack.server_port, stack.token).act(json.dumps({"worker": worker}).encode(), fault)
    assert got.status == 202, got.body
    return str(got.json["id"])


def result(stack: Stack, id: str) -> Any:
    """Return the result as the page shows it, None while there is none."""
    [call] = Page(stack.server_port, stack.token).get("/ui/api/chain", id=id).json["promises"]
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


# ── examples, each started with its one command ──


@containers_seldom
def test_an_example_says_how_to_kill_its_worker_and_how_to_continue(stack: Stack) -> None:
    example = stack.begin("scripts/example.sh", "saga", "--id", id := new_id())
    said = read_until(example.stderr, "booked the flight")
    kill = re.search(r"to kill the worker: (.*)", said)
    assert kill
    stack.succeed(*kill[1].split())
    _, rest = example.communicate(timeout=60)

    assert example.returncode == 1
    assert f"the worker has ended. To continue: scripts/example.sh saga --id {id}\n" in rest
    done = stack.run("scripts/example.sh", "saga", "--id", id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '\nresult: "nothing is booked: the car is sold out"\n' in done.stdout
    assert re.findall(r"cancelled the (\w+)", done.stderr) == ["hotel", "flight"]


def test_a_flow_is_started_like_a_request(stack: Stack) -> None:
    done = stack.run("scripts/trigger.sh", "--flow", "detached", "--id", id := new_id())

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf'result: "{id}:d\w+"', done.stdout), "the id by which the result can be looked up"


@containers_seldom
def test_an_interrupted_example_says_how_to_continue(stack: Stack) -> None:
    example = stack.begin("scripts/example.sh", "approval", "--id", id := new_id())
    read_until(example.stderr, "Resolve the promise")
    example.terminate()
    _, rest = example.communicate(timeout=60)

    assert example.returncode == 130
    assert rest.endswith(f"interrupted. To continue: scripts/example.sh approval --id {id}\n")
