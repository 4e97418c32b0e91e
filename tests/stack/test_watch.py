"""`scripts/watch.sh`: a request in flight, shown on a terminal and elsewhere."""

from harness.terminal import CTRL_C, HIDE_CURSOR, SHOW_CURSOR, Terminal

from stack.conftest import containers_seldom
from stack.driver import REPOSITORY, Answer, Stack, new_id

LONG = 600
"""Seconds; the test itself ends a pause this long."""


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


def test_it_shows_which_worker_is_gone_and_which_takes_over(stack: Stack) -> None:
    id = new_id()
    assert stack.post(id, {"running": 120}, wait=False).status == 202
    with watch(stack, id) as shown:
        shown.wait_for("attempt 1 by ")
        stack.kill("bar")
        shown.wait_for("pending, attempt 1")
        stack.start("bar")
        shown.wait_for("attempt 2 by ")
        shown.press(CTRL_C)
        shown.wait()


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
    stack.succeed("scripts/down.sh", "--volumes")
    stack.start_only("resonate-server")
    stack.wait_for_server()
    done = stack.run("scripts/watch.sh")
    assert done.returncode == 1
    assert done.stderr == "watch.sh: there is no request yet; scripts/trigger.sh --pause 10 sends one.\n"
