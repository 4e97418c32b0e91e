"""``resonate tree`` on chains as SDKs leave them."""

import re
import time
import uuid
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from harness.basics import wait_until
from harness.server import FAR, Client, ServerProcess
from integration.calls import acquire, create, settle

from resonate_server.client import main
from resonate_server.client.calls import CallTask, CallTree
from resonate_server.client.server_connection import ServerConnection
from resonate_server.client.values import now_ms
from resonate_server.protocol.records import TaskState

PID = "0123456789abcdef"

type Tree = Callable[..., Result]


class Chain:
    """Promises of one call tree, tagged as an SDK tags them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.root = f"root-{uuid.uuid4().hex[:8]}"

    def rpc(self, suffix: str, function: str, group: str = "g") -> str:
        return create(self.client, self.root + suffix, function, group, parent=self.root)

    def step(self, suffix: str, parent: str = "") -> str:
        """With a prefix, as SDK 0.7.4 sends it: then the parent may be beside it."""
        id = self.root + suffix
        return create(self.client, id, parent=self.root + parent, scope="local", prefix=self.root)

    def sleep(self, suffix: str, timeout_at: int = FAR) -> str:
        tags = {"parent": self.root, "timer": "true", "target": "poll://any@g", "scope": "global"}
        return create(self.client, self.root + suffix, timeout_at=timeout_at, **tags)

    def settle(self, suffix: str, state: str, value: object) -> None:
        settle(self.client, self.root + suffix, state, value)


@pytest.fixture
def chain(client: Client) -> Chain:
    return Chain(client)


@pytest.fixture
def tree(server: ServerProcess) -> Tree:
    def run(id: str, **env: str) -> Result:
        return CliRunner(env=env).invoke(main, ["tree", id, "-S", server.url])

    return run


def lines(result: Result) -> list[str]:
    """Return the drawing's lines without the header and without trailing padding."""
    assert result.exit_code == 0, result.stderr
    return [line.rstrip() for line in result.stdout.splitlines()][1:]


def left_of_ids(result: Result, chain: Chain) -> list[str]:
    return [line.split(chain.root)[0].rstrip() for line in lines(result)]


def test_a_pending_chain_shows_who_waits_and_who_runs(chain: Chain, tree: Tree, client: Client) -> None:
    root = chain.rpc("", "foo", group="service-foo")
    bar = chain.rpc(":1", "bar", group="service-bar")
    acquire(client, bar)
    drawn = lines(tree(root))

    assert re.fullmatch(f"● foo +{root} +pending for [^ ]+ [a-z]+ +service-foo +pending", drawn[0])
    assert drawn[1].startswith(f"└─ ● bar  {bar}")
    assert drawn[1].endswith(f"service-bar  attempt 1 by {PID[:8]}")


def test_the_tasks_of_a_tree_are_not_requested_one_by_one(
    chain: Chain, client: Client, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, bar = chain.rpc("", "foo"), chain.rpc(":1", "bar")
    acquire(client, bar)
    monkeypatch.setattr(CallTree, "_task", lambda *_: pytest.fail("a task is requested"))
    calls = {call.promise.id: call.task for call in CallTree(ServerConnection(server.url), root).read()}
    assert calls == {root: CallTask(TaskState.PENDING), bar: CallTask(TaskState.ACQUIRED, 1, PID)}


def test_it_lasts_as_long_as_by_the_server_s_clock(chain: Chain, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have set the machine's clock, which the server's own does not follow."""
    root = chain.rpc("", "foo")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 7_200 * 10**9)
    assert re.search("pending for [0-9.]+ m?s ", lines(tree(root))[0])


def test_an_error_is_shown_once_where_it_was_raised(chain: Chain, tree: Tree) -> None:
    root, bar = chain.rpc("", "foo"), chain.rpc(":1", "bar")
    for suffix in (":1", ""):
        chain.settle(suffix, "rejected", {"__type": "error", "message": "boom"})
    drawn = lines(tree(root))
    assert "✘ foo" in drawn[0] and "rejected after" in drawn[0]
    assert drawn[2:] == ["", f"bar failed: boom  {bar}"]


def test_siblings_are_in_order_of_creation_with_lines_to_their_parents(chain: Chain, tree: Tree) -> None:
    root = chain.rpc("", "foo")
    chain.rpc(":2", "second")
    chain.step(":2.1", parent=":2")
    time.sleep(0.005)  # Siblings created in the same millisecond are ordered by id.
    chain.sleep(":1")
    chain.step(":1.1", parent=":1")
    shown = left_of_ids(tree(root), chain)

    assert shown[:3] == ["● foo", "├─ ● second", "│  └─ ● step"]
    assert shown[3].startswith("└─ ● sleep ")
    assert shown[4] == "   └─ ● step"


def test_a_part_of_the_chain_can_be_shown(chain: Chain, tree: Tree) -> None:
    chain.rpc("", "foo")
    bar = chain.rpc(":1", "bar")
    chain.step(":1.1", parent=":1")
    chain.rpc(":2", "other")
    assert left_of_ids(tree(bar), chain)[:-2] == ["● bar", "└─ ● step"]


def test_a_timer_has_neither_group_nor_task(chain: Chain, tree: Tree, client: Client) -> None:
    root = chain.rpc("", "foo")
    now = client.create(f"{root}-clock").data["promise"]["createdAt"]
    chain.sleep(":1", timeout_at=now + 90_000)
    line = lines(tree(root))[1]
    assert "sleep 1 min 2" in line or "sleep 1 min 30 s" in line
    assert line.rstrip().endswith("ms")


def test_a_chain_larger_than_a_page_is_shown_whole(chain: Chain, tree: Tree) -> None:
    root = chain.rpc("", "foo")
    for number in range(205):
        chain.step(f":{number}")
    assert sum(root in line for line in lines(tree(root))) == 206


def test_within_80_columns_ids_omit_what_they_share(chain: Chain, tree: Tree, client: Client) -> None:
    root, bar = chain.rpc("", "foo", group="service-foo"), chain.rpc(":1", "bar", group="service-bar")
    acquire(client, bar)
    drawn = tree(root, COLUMNS="80").stdout.splitlines()

    assert max(map(len, drawn)) <= 80
    assert drawn[0].rstrip() == root
    (row,) = [line for line in drawn if "bar  …:1 " in line]
    assert f"attempt 1 by {PID[:8]}" in row
    narrow = tree(root, COLUMNS="64").stdout
    assert "service-bar" not in narrow
    assert f"attempt 1 by {PID[:8]}" in narrow, "the last column that gives way"


def test_if_the_width_is_known_each_call_has_a_bar_on_the_chain_s_time_axis(
    chain: Chain, tree: Tree, client: Client
) -> None:
    root = chain.rpc("", "foo")
    created_at = client.call("promise.get", id=root).data["promise"]["createdAt"]
    wait_until(lambda: now_ms() > created_at + 300, "the chain is older than its second call")
    chain.rpc(":1", "bar")
    chain.settle(":1", "resolved", 1)
    header, *drawn = tree(root, COLUMNS="120").stdout.splitlines()
    begin = header.rindex(" 0 ") + 1

    assert drawn[0][begin:] == "▚" * (120 - begin)  # no worker of its group has ever come
    assert re.fullmatch(" +▚+ *", drawn[1][begin:])


def test_an_output_that_is_not_utf_8_gets_ascii(chain: Chain, server: ServerProcess) -> None:
    chain.rpc("", "größe")
    chain.rpc(":1", "bar")
    result = CliRunner(charset="ascii", env={"COLUMNS": "120"}).invoke(main, ["tree", chain.root, "-S", server.url])
    assert result.exit_code == 0, result.output
    assert "o gr\\xf6\\xdfe" in result.output
    assert "`- o bar" in result.output


def test_a_terminal_is_not_flooded_by_a_long_result(chain: Chain, tree: Tree) -> None:
    chain.rpc("", "foo")
    chain.settle("", "resolved", "x" * 5_000)
    assert "(5002 characters)" in tree(chain.root, COLUMNS="120").stdout
    assert "x" * 5_000 in tree(chain.root).stdout


def test_ids_messages_and_reasons_cannot_control_the_terminal(chain: Chain, tree: Tree, client: Client) -> None:
    chain.rpc("", "foo\x1b[2J")
    bar = chain.rpc(":1", "bar")
    acquire(client, bar)
    assert client.call("task.release", id=bar, version=1, reason="c\x1b[31md\ne\u202e").status == 200
    chain.step(":\u202etitle")
    chain.settle("", "rejected", {"message": "a\x1b[31mb\nc"})
    result = tree(chain.root)

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout and "\u202e" not in result.stdout
    assert "failed: a\\x1b[31mb\\nc" in result.stdout
    assert "bar: given back: c\\x1b[31md\\ne\\u202e" in result.stdout


def test_a_task_that_keeps_coming_back_is_reported_below_with_its_function(
    chain: Chain, tree: Tree, client: Client
) -> None:
    root = chain.rpc("", "brew")
    for version in range(2):
        acquire(client, root, version)
        client.call("task.release", id=root, version=version + 1)
    assert lines(tree(root))[-1] == f"brew: claimed 2 times, given back each time  {root}"
