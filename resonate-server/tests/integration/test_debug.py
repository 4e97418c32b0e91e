"""``debug.*``: time by hand, and the whole state to look at (protocol section 3.3)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from harness.server import FAR, VERSION, Client, Reply, ServerProcess
from harness.stream import Stream

DEBUG = {"debug.start": {}, "debug.stop": {}, "debug.reset": {}, "debug.snap": {}, "debug.tick": {"time": 1}}


@pytest.fixture(scope="module")
def debugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("debug") / "log", RESONATE_DEBUG="true").start()
    yield process
    process.stop()


@pytest.fixture
def still(debugged: ServerProcess) -> Iterator[Client]:
    """A client of an empty server whose clock stands still."""
    client = debugged.client()
    assert client.call("debug.reset") == client.call("debug.start") == Reply(status=200, data={})
    yield client
    client.call("debug.stop")


def at(client: Client, now: int, kind: str, **data: Any) -> Reply:
    """A request at time ``now``."""
    head = {"corrId": f"at-{now}", "version": VERSION, "resonate:debug_time": now}
    return client.post(json.dumps({"kind": kind, "head": head, "data": data}).encode())


def create_at(client: Client, now: int, id: str, timeout_at: int = FAR, **tags: str) -> Reply:
    named = {f"resonate:{name}": value for name, value in tags.items()}
    return at(client, now, "promise.create", id=id, timeoutAt=timeout_at, tags=named)


@pytest.mark.parametrize("kind", DEBUG)
def test_it_is_forbidden_unless_switched_on(client: Client, kind: str) -> None:
    assert client.call(kind, **DEBUG[kind]).status == 403


def test_a_time_in_the_head_is_ignored_unless_switched_on(client: Client) -> None:
    assert create_at(client, 5, "ignored").data["promise"]["createdAt"] > 1_000_000_000_000


def test_a_time_of_a_wrong_type_is_refused_always(client: Client, still: Client) -> None:
    body = {
        "kind": "promise.get",
        "head": {"corrId": "1", "version": VERSION, "resonate:debug_time": "5"},
        "data": {"id": "x"},
    }

    assert client.post(json.dumps(body).encode()).status == 400
    assert still.post(json.dumps(body).encode()).status == 400


def test_a_time_in_the_head_replaces_the_clock(still: Client) -> None:
    assert create_at(still, 5, "x").data["promise"]["createdAt"] == 5


def test_a_tick_settles_what_is_due_then(still: Client) -> None:
    create_at(still, 0, "early", timeout_at=10, external="true")
    create_at(still, 0, "internal", timeout_at=10, external="false")
    create_at(still, 0, "timer", timeout_at=10, timer="true")
    create_at(still, 0, "late", timeout_at=11, external="true")
    ticked = still.call("debug.tick", time=10)
    snap = still.call("debug.snap").data

    assert ticked == Reply(status=200, data=[])
    assert {promise["id"]: promise["state"] for promise in snap["promises"]} == {
        "early": "rejected_timedout",
        "internal": "pending",
        "late": "pending",
        "timer": "resolved",
    }
    assert snap["promiseTimeouts"] == [{"id": "late", "timeout": 11}]


def test_a_tick_must_agree_with_the_time_in_the_head(still: Client) -> None:
    assert at(still, 10, "debug.tick", time=10).status == 200
    assert at(still, 10, "debug.tick", time=11).status == 400
    assert still.call("debug.tick").status == 400
    assert still.call("debug.tick", time="1").status == 400


def test_nothing_happens_by_itself_until_it_is_started_again(still: Client, debugged: ServerProcess) -> None:
    stream = Stream(debugged.port, "debug-group", "w")
    still.create("past", timeout_at=FAR, target="poll://any@debug-group")
    create_at(still, 0, "due", timeout_at=1)
    quiet = stream.nothing(0.4)
    due = {p["id"]: p["state"] for p in still.call("debug.snap").data["promises"]}["due"]
    still.call("debug.stop")
    message = stream.message()
    stream.close()

    assert quiet
    assert due == "pending"
    assert message["data"]["task"] == {"id": "past", "version": 0}


def test_a_snapshot_shows_everything(still: Client) -> None:
    create_at(still, 0, "a", timeout_at=1_000, target="poll://any@g")
    create_at(still, 0, "b", timeout_at=2_000, target="http://127.0.0.1:9/")
    create_at(still, 0, "c", timeout_at=3_000, external="true")
    create_at(still, 0, "done", timeout_at=3_000, external="true")
    at(still, 1, "promise.register_listener", awaited="c", address="poll://uni@g/w")
    at(still, 1, "promise.register_listener", awaited="done", address="poll://uni@g/w")
    at(still, 1, "promise.register_callback", awaited="c", awaiter="b")
    at(still, 2, "task.acquire", id="a", version=0, pid="p", ttl=50)
    settled = at(still, 3, "promise.settle", id="done", state="resolved").data["promise"]
    snap = still.call("debug.snap").data

    assert snap.keys() == {
        "promises",
        "promiseTimeouts",
        "callbacks",
        "listeners",
        "tasks",
        "taskTimeouts",
        "messages",
    }
    assert [promise["id"] for promise in snap["promises"]] == ["a", "b", "c", "done"]
    assert snap["callbacks"] == [{"awaiter": "b", "awaited": "c"}]
    assert snap["listeners"] == [{"id": "c", "address": "poll://uni@g/w"}]
    assert {task["id"]: task["state"] for task in snap["tasks"]} == {"a": "acquired", "b": "pending"}
    assert {each["id"]: (each["type"], each["timeout"]) for each in snap["taskTimeouts"]} == {
        "a": (1, 52),
        "b": (0, 30_000),
    }
    executes = [each for each in snap["messages"] if each["message"]["kind"] == "execute"]
    assert [(each["address"], each["message"]["data"]["task"]["id"]) for each in executes] == [
        ("http://127.0.0.1:9/", "b")
    ]
    assert {
        "address": "poll://uni@g/w",
        "message": {"kind": "unblock", "head": {}, "data": {"promise": settled}},
    } in snap["messages"]


def test_a_reset_forgets_everything(still: Client) -> None:
    create_at(still, 0, "a", target="poll://any@g")
    tags = {"resonate:target": "poll://any@g"}
    still.call("schedule.create", id="s", cron="* * * * *", promiseId="p", promiseTimeout=1, promiseTags=tags)
    still.call("debug.reset")

    assert all(rows == [] for rows in still.call("debug.snap").data.values())
    assert still.call("schedule.get", id="s").status == 404


def test_after_a_reset_a_worker_gets_new_work_under_old_ids(debugged: ServerProcess) -> None:
    client = debugged.client()
    client.call("debug.reset")
    stream = Stream(debugged.port, "reset-group", "w")
    for _ in range(2):
        client.create("same", target="poll://any@reset-group")
        assert stream.message()["data"]["task"] == {"id": "same", "version": 0}
        client.call("debug.reset")
    stream.close()
