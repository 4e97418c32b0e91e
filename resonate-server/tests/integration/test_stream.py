"""The stream of a worker, byte by byte, and who gets which message (protocol sections 2.4 and 5.3)."""

import json
import uuid
from collections.abc import Callable

import pytest
from harness.server import FAR, Client, ServerProcess
from harness.stream import Stream

Connect = Callable[[str, str], Stream]


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


def test_the_stream_opens_at_once_without_an_event(connect: Connect, group: str) -> None:
    stream = connect(group, "w")

    assert stream.head.startswith("HTTP/1.1 200")
    assert "text/event-stream" in stream.head
    assert stream.nothing()


def test_a_message_is_one_data_line_of_ascii_with_lf_line_ends(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create("ünï\u2028cödé", target=f"poll://any@{group}")

    assert stream.message()["data"]["task"]["id"] == "ünï\u2028cödé"
    assert stream.raw.isascii()
    assert b"\r" not in stream.raw


def test_an_execute_names_task_and_version_and_has_a_head(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f"{group}-a", target=f"poll://any@{group}")

    message = stream.message()

    assert message["kind"] == "execute"
    assert message["data"] == {"task": {"id": f"{group}-a", "version": 0}}
    assert isinstance(message["head"], dict)


def test_work_that_was_there_before_any_worker_is_handed_over_on_connect(
    client: Client, connect: Connect, group: str
) -> None:
    client.create(f"{group}-a", target=f"poll://any@{group}")

    assert connect(group, "w").message()["data"]["task"]["id"] == f"{group}-a"


def test_a_delayed_task_is_not_handed_over_early(client: Client, connect: Connect, group: str) -> None:
    client.create(f"{group}-a", target=f"poll://any@{group}", delay=str(FAR - 1))

    assert connect(group, "w").nothing()


def test_a_claimed_task_is_not_sent_to_a_worker_that_connects(client: Client, connect: Connect, group: str) -> None:
    client.create(f"{group}-a", target=f"poll://any@{group}")
    client.call("task.acquire", id=f"{group}-a", version=0, pid="p", ttl=60_000)

    assert connect(group, "w").nothing()


def test_what_a_dead_worker_did_not_claim_goes_to_the_next(client: Client, connect: Connect, group: str) -> None:
    first = connect(group, "w1")
    client.create(f"{group}-a", target=f"poll://any@{group}")
    first.message()
    first.close()

    assert connect(group, "w2").message()["data"]["task"]["id"] == f"{group}-a"


def test_a_preferred_worker_is_chosen_while_it_is_there(client: Client, connect: Connect, group: str) -> None:
    others, preferred = [connect(group, f"w{i}") for i in range(3)], connect(group, "me")
    client.create(f"{group}-a", target=f"poll://any@{group}/me")

    assert preferred.message()["data"]["task"]["id"] == f"{group}-a"
    assert all(stream.nothing(0.1) for stream in others)


def test_an_absent_preferred_worker_is_replaced_by_any_other(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f"{group}-a", target=f"poll://any@{group}/absent")

    assert stream.message()["data"]["task"]["id"] == f"{group}-a"


def test_a_unicast_message_goes_to_nobody_else(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f"{group}-a", target=f"poll://uni@{group}/absent")

    assert stream.nothing()
    assert connect(group, "absent").message()["data"]["task"]["id"] == f"{group}-a"


def test_group_and_id_are_percent_decoded(client: Client, connect: Connect, group: str) -> None:
    stream = connect(f"{group}%20x", "w")
    client.create(f"{group}-a", target=f"poll://any@{group}%20x")

    assert stream.message()["kind"] == "execute"


def test_the_newest_connection_of_a_process_replaces_the_older_one(
    client: Client, connect: Connect, group: str
) -> None:
    older, newer = connect(group, "w"), connect(group, "w")
    client.create(f"{group}-a", target=f"poll://any@{group}")

    assert newer.message()["kind"] == "execute"
    with pytest.raises(EOFError):
        older.message()


def test_a_listener_is_told_the_settled_promise(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f"{group}-a")
    client.call("promise.register_listener", awaited=f"{group}-a", address=f"poll://uni@{group}/w")
    settled = client.call("promise.settle", id=f"{group}-a", state="resolved", value={"data": "Mg=="})

    assert stream.message() == {"kind": "unblock", "head": {}, "data": settled.data}


def test_a_listener_that_was_away_is_told_when_it_comes_back(client: Client, connect: Connect, group: str) -> None:
    client.create(f"{group}-a")
    client.call("promise.register_listener", awaited=f"{group}-a", address=f"poll://uni@{group}/w")
    client.call("promise.settle", id=f"{group}-a", state="resolved")

    assert connect(group, "w").message()["data"]["promise"]["id"] == f"{group}-a"


def test_a_timer_is_resolved_on_time_and_never_dispatched(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    created = client.create(f"{group}-a", timeout_at=_soon(client, group), target=f"poll://any@{group}", timer="true")
    client.call("promise.register_listener", awaited=f"{group}-a", address=f"poll://uni@{group}/w")
    promise = stream.message()["data"]["promise"]

    assert promise["state"] == "resolved"
    assert promise["settledAt"] == created.data["promise"]["timeoutAt"]


def _soon(client: Client, group: str) -> int:
    """A quarter of a second from now by the server's clock."""
    created_at: int = client.create(f"{group}-clock").data["promise"]["createdAt"]
    return created_at + 250


def test_a_lapsed_lease_is_dispatched_again_by_itself(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f"{group}-a", target=f"poll://any@{group}")
    stream.message()
    client.call("task.acquire", id=f"{group}-a", version=0, pid="p", ttl=200)

    assert stream.message()["data"]["task"] == {"id": f"{group}-a", "version": 1}


def test_more_tasks_than_a_worker_may_be_told_of_follow_as_it_claims(
    client: Client, connect: Connect, group: str
) -> None:
    for number in range(100):
        client.create(f"{group}-{number:03}", target=f"poll://any@{group}")
    stream = connect(group, "w")
    seen = []
    for _ in range(100):
        task = stream.message()["data"]["task"]
        seen.append(task["id"])
        client.call("task.acquire", id=task["id"], version=task["version"], pid="w", ttl=60_000)

    assert sorted(seen) == [f"{group}-{number:03}" for number in range(100)]


def test_streams_above_the_limit_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    limited = ServerProcess(
        tmp_path_factory.mktemp("limited") / "log", RESONATE_TRANSPORTS__HTTP_POLL__MAX_CONNECTIONS="1"
    ).start()
    first, second = Stream(limited.port, "g", "1"), Stream(limited.port, "g", "2")
    first.close()
    second.close()
    limited.stop()

    assert second.head.startswith("HTTP/1.1 503")


def test_a_message_is_valid_json_to_any_parser(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f'{group}-"\\/\u2028😀', target=f"poll://any@{group}")
    stream.message()

    assert json.loads(stream.raw.split(b"data: ")[1])["data"]["task"]["id"] == f'{group}-"\\/\u2028😀'
