"""``resonate tree`` on chains as SDKs leave them."""

import re
import time
from collections.abc import Callable

import pytest
from click.testing import Result
from harness.basics import wait_until
from harness.server import FAR, Client, ServerProcess
from integration.calls import acquire, create, settle

from resonate_server.client.calls import CallTask, CallTree
from resonate_server.client.server_connection import ServerConnection
from resonate_server.client.values import now_ms
from resonate_server.protocol.records import TaskState

PID = "0123456789abcdef"

type Tree = Callable[..., list[str]]


@pytest.fixture
def tree(run: Callable[..., Result]) -> Tree:
    """Draw the tree of a call; return the lines, of which the first has the names of the columns."""

    def draw(id: str, **settings: str) -> list[str]:
        result = run("tree", id, **settings)
        assert result.exit_code == 0, result.stderr
        return [line.rstrip() for line in result.stdout.splitlines()]

    return draw


def sleep(client: Client, id: str, timeout_at: int = FAR) -> str:
    return create(client, id, timeout_at=timeout_at, timer="true", target="poll://any@g", scope="global")


def left_of_ids(drawn: list[str], root: str) -> list[str]:
    return [line.split(root)[0].rstrip() for line in drawn[1:]]


def test_a_pending_chain_shows_who_waits_and_who_runs(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo", "service-foo")
    bar = create(client, f"{id}.1", "bar", "service-bar")
    acquire(client, bar)
    _, foo_line, bar_line, *_ = tree(id)

    assert re.fullmatch(f"● foo +{id} +pending for [^ ]+ [a-z]+ +service-foo +pending", foo_line)
    assert bar_line.startswith(f"└─ ● bar  {bar}")
    assert bar_line.endswith(f"service-bar  attempt 1 by {PID[:8]}")


def test_the_tasks_of_a_tree_are_not_requested_one_by_one(
    client: Client, server: ServerProcess, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(client, bar := create(client, f"{create(client, id, 'foo')}.1", "bar"))
    monkeypatch.setattr(CallTree, "_task", lambda *_: pytest.fail("a task is requested"))
    calls = {call.promise.id: call.task for call in CallTree(ServerConnection(server.url), id).read()}
    assert calls == {id: CallTask(TaskState.PENDING), bar: CallTask(TaskState.ACQUIRED, 1, PID)}


def test_it_lasts_as_long_as_by_the_server_s_clock(
    tree: Tree, client: Client, id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have set the machine's clock, which the server's own does not follow."""
    create(client, id, "foo")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 7_200 * 10**9)
    assert re.search("pending for [0-9.]+ m?s ", tree(id)[1])


def test_an_error_is_shown_once_where_it_was_raised(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo")
    bar = create(client, f"{id}.1", "bar")
    for each in (bar, id):
        settle(client, each, "rejected", {"__type": "error", "message": "boom"})
    drawn = tree(id)
    assert "✘ foo" in drawn[1] and "rejected after" in drawn[1]
    assert drawn[3:] == ["", f"bar failed: boom  {bar}"]


def test_siblings_are_in_order_of_creation_with_lines_to_their_parents(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo")
    create(client, f"{id}.2", "second")
    create(client, f"{id}:2.1", parent=f"{id}.2", scope="local", prefix=id)  # as SDK 0.7.4 sends it
    time.sleep(0.005)  # Siblings created in the same millisecond are ordered by id.
    create(client, f"{sleep(client, f'{id}.1')}.1", scope="local")
    shown = left_of_ids(tree(id), id)

    assert shown[:3] == ["● foo", "├─ ● second", "│  └─ ● step"]
    assert shown[3].startswith("└─ ● sleep ")
    assert shown[4] == "   └─ ● step"


def test_a_part_of_the_chain_can_be_shown(tree: Tree, client: Client, id: str) -> None:
    for call, function in ((id, "foo"), (f"{id}.1", "bar"), (f"{id}.1.1", ""), (f"{id}.2", "other")):
        create(client, call, function)
    assert left_of_ids(tree(f"{id}.1"), id)[:-2] == ["● bar", "└─ ● step"]


def test_a_timer_has_neither_group_nor_task(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo")
    now = client.create(f"{id}-clock").data["promise"]["createdAt"]
    sleep(client, f"{id}.1", timeout_at=now + 90_000)
    line = tree(id)[2]
    assert "sleep 1 min 2" in line or "sleep 1 min 30 s" in line
    assert line.endswith("ms")


def test_a_chain_larger_than_a_page_is_shown_whole(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo")
    for number in range(205):
        create(client, f"{id}.{number}")
    assert sum(id in line for line in tree(id)) == 206


def test_within_80_columns_ids_omit_what_they_share(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo", "service-foo")
    acquire(client, create(client, f"{id}.1", "bar", "service-bar"))
    drawn = tree(id, COLUMNS="80")

    assert max(map(len, drawn)) <= 80
    assert drawn[0] == id
    (row,) = [line for line in drawn if "bar  ….1 " in line]
    assert f"attempt 1 by {PID[:8]}" in row
    narrow = "\n".join(tree(id, COLUMNS="64"))
    assert "service-bar" not in narrow
    assert f"attempt 1 by {PID[:8]}" in narrow, "the last column that gives way"


def test_if_the_width_is_known_each_call_has_a_bar_on_the_chain_s_time_axis(
    tree: Tree, client: Client, id: str
) -> None:
    create(client, id, "foo")
    created_at = client.call("promise.get", id=id).data["promise"]["createdAt"]
    wait_until(lambda: now_ms() > created_at + 300, "the chain is older than its second call")
    settle(client, create(client, f"{id}.1", "bar"))
    header, *drawn = tree(id, COLUMNS="120")
    begin = header.rindex(" 0 ") + 1

    assert drawn[0][begin:] == "▚" * (120 - begin)  # no worker of its group has ever come
    assert re.fullmatch(" +▚+", drawn[1][begin:])


def test_an_output_that_is_not_utf_8_gets_ascii(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "größe")
    create(client, f"{id}.1", "bar")
    drawn = "\n".join(tree(id, charset="ascii", COLUMNS="120"))
    assert "o gr\\xf6\\xdfe" in drawn
    assert "`- o bar" in drawn


def test_a_terminal_is_not_flooded_by_a_long_result(tree: Tree, client: Client, id: str) -> None:
    settle(client, create(client, id, "foo"), value="x" * 5_000)
    assert "(5002 characters)" in "".join(tree(id, COLUMNS="120"))
    assert "x" * 5_000 in "".join(tree(id))


def test_ids_messages_and_reasons_cannot_control_the_terminal(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "foo\x1b[2J")
    bar = create(client, f"{id}.1", "bar")
    acquire(client, bar)
    assert client.call("task.release", id=bar, version=1, reason="c\x1b[31md\ne\u202e").status == 200
    create(client, f"{id}.\u202etitle", scope="local")
    settle(client, id, "rejected", {"message": "a\x1b[31mb\nc"})
    drawn = "\n".join(tree(id))

    assert "\x1b" not in drawn and "\u202e" not in drawn
    assert "failed: a\\x1b[31mb\\nc" in drawn
    assert "bar: given back: c\\x1b[31md\\ne\\u202e" in drawn


def test_a_task_that_keeps_coming_back_is_reported_below_with_its_function(tree: Tree, client: Client, id: str) -> None:
    create(client, id, "brew")
    for version in range(2):
        acquire(client, id, version)
        client.call("task.release", id=id, version=version + 1)
    assert tree(id)[-1] == f"brew: claimed 2 times, given back each time  {id}"
