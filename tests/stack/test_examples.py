"""The examples, each started with its one command against a stack of either kind."""

import re
import subprocess

from stack.conftest import containers_seldom
from stack.driver import Stack, new_id


def lines_until(example: subprocess.Popen[str], pattern: str) -> str:
    """Return its output up to the line that matches."""
    assert example.stderr is not None
    said = ""
    while not re.search(pattern, said):
        line = example.stderr.readline()
        assert line, said
        said += line
    return said


@containers_seldom
def test_an_example_says_how_to_kill_its_worker_and_how_to_continue(stack: Stack) -> None:
    example = stack.begin("scripts/example.sh", "saga", "--id", id := new_id())
    said = lines_until(example, "booked the flight")
    kill = re.search(r"to kill the worker: (.*)", said)
    assert kill
    stack.succeed(*kill[1].split())
    _, rest = example.communicate(timeout=60)

    assert example.returncode == 1
    assert f"the worker has ended. To continue: scripts/example.sh saga --id {id}\n" in rest
    done = stack.run("scripts/example.sh", "saga", "--id", id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"data": "nothing is booked: the car is sold out"' in done.stdout
    assert re.findall(r"cancelled the (\w+)", done.stderr) == ["hotel", "flight"]


def test_a_flow_is_started_like_a_request(stack: Stack) -> None:
    done = stack.run("scripts/trigger.sh", "--flow", "detached", "--id", id := new_id())

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf'"data": "{id}:d\w+"', done.stdout), "the id by which the result can be looked up"


@containers_seldom
def test_an_interrupted_example_says_how_to_continue(stack: Stack) -> None:
    example = stack.begin("scripts/example.sh", "approval", "--id", id := new_id())
    lines_until(example, "Resolve the promise")
    example.terminate()
    _, rest = example.communicate(timeout=60)

    assert example.returncode == 130
    assert rest.endswith(f"interrupted. To continue: scripts/example.sh approval --id {id}\n")
