"""A worker's stream byte by byte, and who gets which message (protocol sections 2.4 and 5.3)."""

import uuid
from collections.abc import Callable

import pytest
from harness.server import Client, ServerProcess
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


def test_a_listener_receives_the_settled_promise(client: Client, connect: Connect, group: str) -> None:
    stream = connect(group, "w")
    client.create(f"{group}-a")
    client.call("promise.register_listener", awaited=f"{group}-a", address=f"poll://uni@{group}/w")
    settled = client.call("promise.settle", id=f"{group}-a", state="resolved", value={"data": "Mg=="})
    assert stream.message() == {"kind": "unblock", "head": {}, "data": settled.data}


def test_streams_above_the_limit_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    limited = ServerProcess(
        tmp_path_factory.mktemp("limited") / "log", RESONATE_TRANSPORTS__HTTP_POLL__MAX_CONNECTIONS="1"
    ).start()
    first, second = Stream(limited.port, "g", "1"), Stream(limited.port, "g", "2")
    first.close()
    second.close()
    limited.stop()

    assert second.head.startswith("HTTP/1.1 503")
